"""The service's own log: JSON lines in production, key-values on a terminal."""

import logging
import sys

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from common.settings import Settings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(settings: Settings) -> None:
    """Send structlog and the standard library's loggers to stderr in one form."""
    level = _LEVELS[settings.log_level]
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if as_json
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[_strip, *last]))
    logging.getLogger("aiohttp.server").addFilter(_short)
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)


def _short(record: logging.LogRecord) -> bool:
    """A request that can't be parsed is its sender's fault: one line, without the bytes, which may hold a token."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError | web.RequestPayloadError):
        record.levelno, record.levelname = logging.WARNING, "WARNING"
        record.msg, record.args = f"a request can't be read: {type(error).__name__}", ()
        record.exc_info = record.exc_text = None
    return True


def _strip(
    _logger: structlog.typing.WrappedLogger, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    event.pop("_record", None)
    event.pop("_from_structlog", None)
    return event
