"""Start, serve, stop: lock the data directory, bind the port, open the parts, accept (DESIGN, "Order at start")."""

import asyncio
import gc
import os
import signal
import socket
import sys

import structlog
from aiohttp import web
from attrs import define, evolve

from common.errors import StartError
from common.settings import Settings, unknown_variables
from service import journal
from service.app import make_app
from service.auth import HOW_TO_OPEN
from service.lock import hold
from service.parts import Parts, open_parts

log = structlog.get_logger(__name__)

_BACKLOG = 1024
_FATAL_EXIT = 70
_SHORTEST_TOKEN = 16
_GARBAGE_OBJECTS = 20_000


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit status. Raises `StartError` when it can't start."""
    journal.configure(settings)
    for name in unknown_variables(os.environ):
        log.warning("an unknown setting is ignored", name=name)
    with hold(settings.data_dir), _bind(settings) as listener:
        return asyncio.run(_serve(settings, listener))


@define
class _Stop:
    """Why the service stops."""

    asked: asyncio.Event
    by: str = ""
    fatal: bool = False

    def __call__(self, by: str, *, fatal: bool = False) -> None:
        self.by = self.by or by
        self.fatal = self.fatal or fatal
        self.asked.set()


async def _serve(settings: Settings, listener: socket.socket) -> int:
    settings = evolve(settings, port=listener.getsockname()[1])  # runs are told where to post: never 0
    stop = _Stop(asyncio.Event())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number.name)
    async with open_parts(settings, lambda: stop("a fault that it can't go on with", fatal=True)) as parts:
        runner = web.AppRunner(make_app(parts), access_log=None, shutdown_timeout=settings.stop_seconds)
        await runner.setup()
        await web.SockSite(runner, listener, backlog=_BACKLOG).start()
        _spare_the_collector()
        _say_serving(settings, listener)
        await stop.asked.wait()
        log.info("stopping", by=stop.by)
        parts.stopping = True
        parts.bus.close()
        parts.preflights.close()
        await runner.cleanup()
        _say_going_on(parts, print_too=stop.by == "SIGINT")
    return _FATAL_EXIT if stop.fatal else 0


def _spare_the_collector() -> None:
    """What is here now stays, and a request makes no cycles: look for garbage seldom, and only among what is new."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS, 20, 20)


def _bind(settings: Settings) -> socket.socket:
    """The listening address, taken but not yet accepting. Raises `StartError`."""
    where = f"{settings.host}:{settings.port}"
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as e:
        raise StartError(f"the address {where} can't be used: {e}") from e
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as e:
        listener.close()
        raise StartError(
            f"{where} can't be listened on: {e.strerror}; choose another address with --host, --port"
        ) from e
    listener.setblocking(False)
    return listener


def _say_serving(settings: Settings, listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104 as people open it
    log.info(
        "serving",
        url=f"http://{host}:{port}",
        listening_on=settings.host,
        data_dir=str(settings.data_dir),
        pid=os.getpid(),
    )
    if settings.token is None:
        log.info("only this machine is served", how_to_open=HOW_TO_OPEN)
    elif len(settings.token.reveal()) < _SHORTEST_TOKEN:
        log.warning("the token is short and may be guessed; make one by: openssl rand -hex 32")
    if os.getpid() == 1:
        log.warning("this is process 1 of a container: local jobs end with it")


def _say_going_on(parts: Parts, *, print_too: bool) -> None:
    """Tell the operator what is left running, and how to end it."""
    live = [job.job_id for job in parts.watch.live()]
    if not live:
        return
    log.info("runs go on without the service", jobs=len(live))
    if print_too:
        example = f"trainyard cancel {live[0]}"
        sys.stderr.write(
            f"\n{len(live)} run{'s go' if len(live) > 1 else ' goes'} on: {', '.join(live[:5])}"
            f"{' …' if len(live) > 5 else ''}. They are taken up again when the service starts; "
            f"to end one: start the service, then `{example}`.\n"
        )
