"""What handlers find in the application."""

from aiohttp import web

from service.parts import Parts

PARTS = web.AppKey("PARTS", Parts)
REQUEST_ID = web.RequestKey("REQUEST_ID", str)
