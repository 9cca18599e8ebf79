"""Short pieces of work in threads: each has its own result, and what waits is told together."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from common.hands import Hands


@asynccontextmanager
async def hands(threads: int, at_once: int) -> AsyncIterator[Hands]:
    made = Hands("test", threads, at_once)
    yield made
    made.close()
    async with asyncio.timeout(5):
        await made.closed()


def divide(over: int, *, by: int) -> int:
    return over // by


async def test_each_piece_has_its_own_result_or_error() -> None:
    async with hands(2, 4) as made:
        found = await asyncio.gather(*(made.do(divide, 12, by=n) for n in range(4)), return_exceptions=True)
    assert isinstance(found[0], ZeroDivisionError)
    assert found[1:] == [12, 6, 4]


async def test_what_waits_is_done_in_order_and_wakes_the_loop_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, woken, free = asyncio.get_running_loop(), [], threading.Event()
    real = loop.call_soon_threadsafe
    monkeypatch.setattr(
        loop, "call_soon_threadsafe", lambda *a: (woken.append(threading.current_thread()), real(*a))[1]
    )
    order: list[int] = []
    async with hands(1, 10) as made:
        began = asyncio.Event()
        first = asyncio.create_task(made.do(lambda: (real(began.set), free.wait(30))))
        await asyncio.wait_for(began.wait(), 30)
        others = [asyncio.create_task(made.do(order.append, n)) for n in range(8)]
        await asyncio.sleep(0.05)
        free.set()
        await asyncio.gather(first, *others)
        assert order == list(range(8))
        assert len([thread for thread in woken if thread.name == "test-0"]) == 2


async def test_a_piece_that_hangs_holds_up_none_that_other_threads_take() -> None:
    free = threading.Event()
    async with hands(2, 1) as made:
        hangs = asyncio.create_task(made.do(free.wait, 5))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(2):
            assert [await made.do(divide, n, by=1) for n in range(20)] == list(range(20))
        assert not hangs.done()
        free.set()
        assert await hangs


async def test_who_leaves_is_not_told_and_what_had_not_begun_is_not_done() -> None:
    free, done = threading.Event(), []
    async with hands(1, 1) as made:
        first = asyncio.create_task(made.do(free.wait, 5))
        await asyncio.sleep(0.05)
        left = asyncio.create_task(made.do(done.append, "left"))
        await asyncio.sleep(0.05)
        left.cancel()
        await asyncio.sleep(0)
        free.set()
        await first
        await made.do(done.append, "last")
    assert left.cancelled()
    assert done == ["last"]


async def test_a_thread_that_hangs_for_somebody_who_left_is_not_counted_on() -> None:
    free = threading.Event()
    async with hands(2, 4) as made:
        hangs = asyncio.create_task(made.do(free.wait, 5))
        await asyncio.sleep(0.05)
        hangs.cancel()
        async with asyncio.timeout(2):
            assert await made.do(divide, 6, by=2) == 3
        free.set()


async def test_where_no_thread_can_be_had_it_is_an_error_and_later_pieces_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with hands(2, 1) as made:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refused)
            with pytest.raises(RuntimeError, match="can't start"):
                async with asyncio.timeout(2):
                    await made.do(divide, 4, by=2)
        assert await made.do(divide, 4, by=2) == 2
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refused)
            async with asyncio.timeout(2):
                assert await asyncio.gather(*(made.do(divide, n, by=1) for n in range(9))) == list(range(9))


async def test_what_no_future_takes_is_told_as_another_error() -> None:
    async with hands(1, 4) as made, asyncio.timeout(2):
        found = await asyncio.gather(made.do(next, iter(())), made.do(divide, 4, by=2), return_exceptions=True)
    assert isinstance(found[0], RuntimeError) and found[1] == 2
