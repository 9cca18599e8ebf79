"""The aiohttp application: keys, middlewares, routes."""

from aiohttp import web

from service.api import absent
from service.api.middlewares import request_ids
from service.api.train import control, events, jobs, logs, reports, runs, state
from service.keys import PARTS
from service.parts import Parts

ROUTES = (
    *(*jobs.ROUTES, *control.ROUTES, *events.ROUTES, *logs.ROUTES, *reports.ROUTES),
    *(*runs.ROUTES, *state.ROUTES, *absent.ROUTES),
)


def make_app(parts: Parts) -> web.Application:
    """The application over parts that are open already."""
    app = web.Application(middlewares=[request_ids], client_max_size=parts.settings.max_body_bytes)
    app[PARTS] = parts
    app.add_routes(ROUTES)
    return app
