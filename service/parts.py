"""Everything that the service is made of, opened in order and closed in reverse (DESIGN, "Order at start")."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Generic, TypeVar

import structlog
from attrs import define, field

from backends.registry import Registry
from common.backend import BackendContext
from common.clock import Clock
from common.devices import DevicePool, detect
from common.errors import StartError, Unavailable
from common.hands import Hands
from common.secret import SecretBox, load_key
from common.settings import Settings
from service.bus import Bus
from service.dispatch import Dispatch
from service.folders import Folders
from service.handover import HandOver
from service.metrics import Metrics
from service.mirror import Mirror
from service.posted import Posted
from service.preflight import Preflights
from service.recovery import recover
from service.store.base import Counts, Store, StoredEvent
from service.store.sqlite import SqliteStore, open_store
from service.watch import Watch
from service.webhooks import WebhookWorker

log = structlog.get_logger(__name__)

T = TypeVar("T")

_LOOK_SECONDS = 1.0
_START_SECONDS = 30.0
_LOOKERS = 4
_WAKING = frozenset({"job.queued", "job.retrying", "job.paused", "job.succeeded", "job.failed", "job.cancelled"})


@define
class _Seen(Generic[T]):
    """A number that is dear to get, remembered for a second."""

    value: T | None = None
    until: float = 0.0


@define(eq=False)
class Parts:
    """What operations and handlers work with."""

    settings: Settings
    clock: Clock
    store: Store
    bus: Bus
    registry: Registry
    folders: Folders
    handover: HandOver
    dispatch: Dispatch
    watch: Watch
    webhooks: WebhookWorker
    mirror: Mirror
    metrics: Metrics
    preflights: Preflights
    posted: Posted = field(factory=Posted)
    #: For what requests must look up in folders.
    looks: Hands = field(factory=lambda: Hands("looks", _LOOKERS, 1))
    cwd: Path = field(factory=Path.cwd)
    subscribers: int = 0
    stopping: bool = False
    #: Names of side tasks that have died; readiness shows them.
    dead: list[str] = field(factory=list)
    _free: "_Seen[int]" = field(factory=_Seen)
    _counts: "_Seen[Counts]" = field(factory=_Seen)

    @contextmanager
    def subscriber(self) -> Iterator[None]:
        """A place among the open streams. Raises `Unavailable` when all are taken."""
        limit = self.settings.max_subscribers
        if self.stopping or self.subscribers >= limit:
            raise Unavailable(f"{limit} streams are open, which is the limit; try again", retry_after=5)
        self.subscribers += 1
        try:
            yield
        finally:
            self.subscribers -= 1

    async def free_bytes(self) -> int:
        """Free disk under the data directory, at most a second old."""
        now = self.clock.monotonic()
        if self._free.value is None or now >= self._free.until:
            self._free.until = now + _LOOK_SECONDS  # one looks; the others go by the number of before
            self._free.value = (await asyncio.to_thread(shutil.disk_usage, self.settings.data_dir)).free
        return self._free.value

    async def counts(self) -> Counts:
        """The store's numbers, at most a second old."""
        now = self.clock.monotonic()
        if self._counts.value is None or now >= self._counts.until:
            self._counts.until = now + _LOOK_SECONDS  # as above
            self._counts.value = await self.store.counts()
        return self._counts.value


@asynccontextmanager
async def open_parts(settings: Settings, on_fatal: Callable[[], None]) -> AsyncIterator[Parts]:
    """Open everything, adopt what runs, and dispatch; runs are left alone at the end.

    `on_fatal` is called when the service can't go on: the database can't be written, or a side task has died.
    """
    clock, bus, metrics = Clock(), Bus(settings.ring_bytes), Metrics()
    given = settings.secret_key.reveal() if settings.secret_key else None
    box = SecretBox(await asyncio.to_thread(load_key, settings.data_dir, given))
    publish = _Publish(bus)
    store = await open_store(
        settings.data_dir / "trainyard.db",
        box,
        clock,
        publish,
        writer_queue=settings.writer_queue,
        event_bytes=settings.max_event_bytes,
        on_fatal=on_fatal,
    )
    async with _closing(store):
        _, newest = await store.event_bounds()
        bus.begin(newest)
        pool = DevicePool(await detect(settings.local_devices))
        registry = Registry(BackendContext(settings=settings, clock=clock, devices=pool))
        if settings.backend not in registry.names():
            known = ", ".join(registry.names())
            raise StartError(f"the default backend must be one of {known}; got {settings.backend!r} (--backend)")
        await registry.start(_START_SECONDS)
        folders = Folders(store, registry)
        mirror = Mirror(store, folders, settings)
        watch = Watch(store, registry, folders, settings, clock, metrics, mirror)
        handover = HandOver(store, registry, folders, watch, settings)
        parts = Parts(
            settings=settings,
            clock=clock,
            store=store,
            bus=bus,
            registry=registry,
            folders=folders,
            handover=handover,
            dispatch=Dispatch(store, registry, handover, settings, clock),
            watch=watch,
            webhooks=WebhookWorker(store, settings, clock),
            mirror=mirror,
            metrics=metrics,
            preflights=Preflights(settings),
        )
        publish.also, watch.freed = (parts.webhooks.notify, parts.dispatch.wake), parts.dispatch.wake
        await recover(store, watch, handover, parts.dispatch)
        tasks = [
            asyncio.create_task(_side_task(name, run, parts, on_fatal))
            for name, run in (
                ("dispatch", parts.dispatch.run),
                ("webhooks", parts.webhooks.run),
                ("mirror", mirror.run),
            )
        ]
        try:
            yield parts
        finally:
            parts.stopping = True
            bus.close()
            parts.preflights.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await watch.close()
            handover.close()
            parts.looks.close()
            await registry.close()


class _Publish:
    """Committed events go to the bus, and wake whoever may have work now."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.also: tuple[Callable[[], None], Callable[[], None]] = (lambda: None, lambda: None)

    def __call__(self, events: Sequence[StoredEvent]) -> None:
        self._bus.publish(events)
        notify_webhooks, wake_dispatch = self.also
        if any(event.told for event in events):
            notify_webhooks()
        if any(event.type in _WAKING for event in events):
            wake_dispatch()


@asynccontextmanager
async def _closing(store: SqliteStore) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await store.close()


async def _side_task(
    name: str, run: Callable[[], Coroutine[None, None, None]], parts: Parts, on_fatal: Callable[[], None]
) -> None:
    """One of the things that must go on for the service to be one; when it dies the service stops and says so."""
    try:
        await run()
    except asyncio.CancelledError:
        raise
    except BaseException:
        log.exception("a side task died; the service stops", task=name)
        parts.dead.append(name)
        on_fatal()
