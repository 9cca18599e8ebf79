"""The worker that empties the outbox: takes what is due, sends it, records every try."""

import asyncio
import socket
import traceback
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import structlog

from common.clock import Clock, stamp
from common.errors import NotFound, StorageFull, Unavailable
from common.settings import Settings
from service.store.base import Attempted, Delivery, Store
from service.webhooks.hooks import Hooks, read_hooks
from service.webhooks.sender import Answer, Lookup, Sender
from service.webhooks.turns import Turns
from service.webhooks.verdict import judge

log = structlog.get_logger(__name__)

_PAGE = 512
_HOOKS_REMEMBERED = 4096
_SHORTEST_ROUND = 0.02
_LONGEST_REST = 60.0
_REST_WHILE_SENDING = 0.25
_REST_AFTER_ERROR = 1.0
_STOP_SECONDS = 2.0


class WebhookWorker:
    """Sends deliveries until it is cancelled; what a stop cuts off is tried again by the next worker."""

    def __init__(self, store: Store, settings: Settings, clock: Clock, lookup: Lookup = socket.getaddrinfo) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._sender = Sender(settings.webhook_timeout_seconds, lookup)
        self._turns = Turns(settings.webhook_concurrency, settings.webhook_concurrency_per_host)
        self._hooks: OrderedDict[str, Hooks] = OrderedDict()
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sending: set[asyncio.Task[None]] = set()
        self._stopping = False

    def notify(self) -> None:
        """Deliveries may have been made."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled. A round that fails is logged, and another follows."""
        self._stopping = False
        async with self._sender:
            try:
                while True:
                    self._wake.clear()
                    began = self._clock.monotonic()
                    rest = await self._round()
                    took = self._clock.monotonic() - began
                    # A long list of due deliveries makes rounds dear: they take a third of the time at most.
                    await asyncio.sleep(min(max(2 * took, _SHORTEST_ROUND), 1.0))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(rest):  # wait_for of 3.11 may swallow a cancellation
                            await self._wake.wait()
            finally:
                await self._stop()

    async def _round(self) -> float:
        """Start what is due and has a slot; the seconds until something may be due again."""
        try:
            await self._refill()
            self._start()
            due = await self._store.next_delivery()
        except Exception:
            log.exception("webhooks: a round failed, the next one follows")
            return _REST_AFTER_ERROR
        if due is None:
            return _LONGEST_REST
        wait = due - self._clock.now()
        if wait <= 0 and len(self._turns):  # that one is under way, or waits for a slot: others may become due
            return _REST_WHILE_SENDING
        return min(max(wait, 0.0), _LONGEST_REST)

    async def _refill(self) -> None:
        self._turns.begin_scan()
        due = await self._store.due_deliveries(self._clock.now(), len(self._turns) + _PAGE)
        for delivery in due:
            if self._turns.is_new(delivery):
                self._turns.offer(await self._host(delivery), delivery)

    async def _host(self, delivery: Delivery) -> str:
        """Scheme, host and port; empty where the hooks can't be read, which the try itself will record."""
        try:
            return (await self._hooks_of(delivery.uid)).origin(delivery.target)
        except Exception as e:
            log.warning("webhook: the job's hooks can't be read", job_id=delivery.job_id, error=type(e).__name__)
            return ""

    async def _hooks_of(self, uid: str) -> Hooks:
        hooks = self._hooks.get(uid)
        if hooks is None:
            hooks = self._hooks[uid] = await read_hooks(self._store, uid)
            if len(self._hooks) > _HOOKS_REMEMBERED:
                self._hooks.popitem(last=False)
        else:
            self._hooks.move_to_end(uid)
        return hooks

    def _start(self) -> None:
        """Give every free slot to the next in turn."""
        while not self._stopping and (taken := self._turns.take()) is not None:
            host, delivery = taken
            task = asyncio.create_task(self._deliver(host, delivery), name=f"webhook-{delivery.webhook_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, host: str, delivery: Delivery) -> None:
        """One try, recorded. Nothing that goes wrong in it reaches the worker."""
        task = asyncio.current_task()
        assert task is not None
        began = self._clock.now()
        self._sending.add(task)
        try:
            answer = await self._try(delivery, began)
            self._sending.discard(task)
            self._turns.answered(host, reachable=not answer.unreachable)
            result = judge(delivery, answer, began, self._clock.now(), self._settings)
            self._tell(host, delivery, result)
            await self._record(delivery, result)
        finally:
            self._sending.discard(task)
            self._turns.done(host, delivery)
            self._wake.set()
            self._start()

    async def _try(self, delivery: Delivery, began: float) -> Answer:
        try:
            return await self._sender.post(delivery, await self._hooks_of(delivery.uid), began)
        except NotFound:
            return Answer(error="the job is gone", final=True)
        except Exception as e:  # a fault of ours or an unreadable row: this delivery alone waits and is tried again
            place = traceback.extract_tb(e.__traceback__)[-1]
            where = f"{Path(place.filename).name}:{place.lineno}"  # no traceback: its locals hold the URL
            log.error("webhook: a fault in a try", job_id=delivery.job_id, fault=type(e).__name__, where=where)
            return Answer(error=f"could not be sent: {type(e).__name__}")

    async def _record(self, delivery: Delivery, result: Attempted) -> None:
        """Until the store took it: a try that was not recorded would be made again at once."""
        wait = 0.5
        while True:
            try:
                return await self._store.delivery_tried(delivery, result)
            except (Unavailable, StorageFull) as e:
                log.warning("webhook: a try can't be recorded yet", job_id=delivery.job_id, error=e.message)
                await asyncio.sleep(wait)
                wait = min(2 * wait, 30.0)
            except Exception as e:  # the job was purged meanwhile, and its deliveries with it
                log.error("webhook: a try was not recorded", job_id=delivery.job_id, error=f"{type(e).__name__}: {e}")
                return None

    def _tell(self, host: str, delivery: Delivery, result: Attempted) -> None:
        if result.state == "delivered":
            log.debug("webhook delivered", job_id=delivery.job_id, target=delivery.target, type=delivery.type)
            return
        log.warning(
            "webhook dead" if result.state == "dead" else "webhook failed",
            job_id=delivery.job_id,
            target=delivery.target,
            type=delivery.type,
            to=host,
            status=result.status,
            error=result.error,
            tries=delivery.tries + 1,
            next_try=stamp(result.next_at) if result.state == "pending" else None,
        )

    async def _stop(self) -> None:
        """Cut what is being sent, let what was answered be recorded."""
        self._stopping = True
        for task in self._sending:
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_STOP_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
