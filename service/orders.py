"""Passes wishes, changes and commands on to live runs; what the backend does not take is sent until it does."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import structlog

from backends.registry import Registry
from common.backend import Change, Command, Handle
from common.errors import BackendUnavailable, Conflict, TrainyardError, Unavailable
from service.answers import tell_held
from service.live import LiveJob, LiveJobs
from service.revisions import DEADLINE, Entry
from service.store.base import Store

log = structlog.get_logger(__name__)

_FIRST_RETRY = 0.5
_LAST_RETRY = 30.0
_ASK_SECONDS = 30.0


class Orders:
    """What the service wants of runs. Only `send` waits for a backend."""

    def __init__(self, store: Store, registry: Registry, live: LiveJobs, grace: float) -> None:
        self._store = store
        self._registry = registry
        self._live = live
        self._grace = grace
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Leave what is not passed on yet to the next start."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Work that nobody waits for."""

        async def go() -> None:
            try:
                await work
            except Exception:
                log.exception("something that was to be passed on is given up until the next start")

        task = asyncio.create_task(go())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send(self, uid: str, command: Command) -> None:
        """Pass a command to a live run. Raises `Conflict` when there is none, `Unavailable` when it isn't reached."""
        if (live := self._live.get(uid)) is None:
            raise Conflict("the job's run is over")
        backend = self._registry.get(live.job.backend)
        try:
            async with asyncio.timeout(_ASK_SECONDS):
                await backend.send(live.handle, command)
        except (BackendUnavailable, TimeoutError) as e:
            raise Unavailable(f"backend {backend.name!r} can't pass a command on: {e or 'it does not answer'}") from e
        except Exception as e:  # a backend of somebody else's may raise anything
            log.exception("a command can't be passed on", job_id=live.job.job_id)
            raise Unavailable(f"backend {backend.name!r} can't pass a command on: {type(e).__name__}: {e}") from e

    def change(self, uid: str, waiting: Sequence[Entry]) -> None:
        """Pass stored changes to the run, each once, in the order of the calls."""
        if waiting and (live := self._live.get(uid)) is not None:
            self.spawn(self._change(live, waiting))

    async def _change(self, live: LiveJob, waiting: Sequence[Entry]) -> None:
        async with live.changing:
            for entry in waiting:
                if entry["id"] in live.passed_on:
                    continue
                values = {k: v for k, v in entry["values"].items() if not k.startswith("resources.")}
                if (minutes := entry["values"].get(DEADLINE)) is not None:
                    values["deadline_minutes"] = minutes
                await self._until_taken(live, Change(id=entry["id"], values=values), tell=set(values))

    async def _until_taken(self, live: LiveJob, command: Change, tell: set[str]) -> None:
        """Send until the backend takes it, or the run is over; a deadline holds then, for it is the guard's."""
        wait = _FIRST_RETRY
        while self._live.still(live):
            try:
                if command.id not in live.passed_on:
                    handle = live.handle
                    await self.send(live.job.uid, command)
                    if live.handle is not handle:  # begun again meanwhile: it went to the run before
                        continue
                    live.passed_on.add(command.id)
                if tell == {"deadline_minutes"}:
                    await tell_held(self._store, live.job.uid, live.handle.attempt, command.id)
                return
            except Conflict:
                return
            except TrainyardError as e:
                log.warning("a change waits", job_id=live.job.job_id, error=e.message)
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LAST_RETRY)

    def end(self, uid: str) -> None:
        """Pass a stored wish to cancel or pause on to the run; its backend is asked until it takes it."""
        if (live := self._live.get(uid)) is not None and live.ending is not live.handle:
            live.ending = live.handle
            self.spawn(self._end(live, live.handle))

    async def _end(self, live: LiveJob, handle: Handle) -> None:
        wait = _FIRST_RETRY
        try:
            while not await self._taken(live, handle):
                await asyncio.sleep(wait)
                wait = min(wait * 2, _LAST_RETRY)
        finally:
            live.ending = None if live.ending is handle else live.ending

    async def _taken(self, live: LiveJob, handle: Handle) -> bool:
        """Whether the backend took the wish, or nothing is left to end; a later run of the job is another's matter."""
        if not self._live.still(live) or live.handle is not handle:
            return True
        try:
            backend = self._registry.get(live.job.backend)
            async with asyncio.timeout(_ASK_SECONDS):
                await backend.cancel(handle, self._grace)
        except (BackendUnavailable, TimeoutError) as e:
            error = str(e) or f"no answer within {_ASK_SECONDS:g} s"
            log.warning("cancel waits for the backend", job_id=live.job.job_id, error=error)
            return False
        except Exception:  # a backend of somebody else's may raise anything; the wish still holds
            log.exception("cancel failed and is tried again", job_id=live.job.job_id)
            return False
        return True
