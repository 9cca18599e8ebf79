"""The ring: bounded in bytes, and no reader loses or repeats an event whatever is dropped (DESIGN, 5)."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from service.bus import Bus
from service.store.base import StoredEvent


def event(number: int, uid: str, *, size: int = 10) -> StoredEvent:
    return StoredEvent(number, uid, "job.progress", "x" * size, False)


class Log:
    """A store of events alone, as the bus reads it."""

    def __init__(self) -> None:
        self.rows: list[StoredEvent] = []

    async def events(self, uid, after, limit):
        await asyncio.sleep(0)
        found = [e for e in self.rows if e.id > after and uid in (None, e.uid)]
        return found[:limit]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3)), max_size=40),
    st.integers(64, 2000),
    st.sampled_from([None, "a", "b"]),
    st.integers(0, 5),
)
def test_every_reader_gets_every_event_once_in_order(writes, limit, uid, after):
    async def play() -> None:
        bus, log, seen = Bus(limit), Log(), []
        reader = asyncio.create_task(read(bus, log, uid, after, seen))
        number = 0
        for job, count in writes:
            made = [event(number + n + 1, job) for n in range(count)]
            number += count
            log.rows += made
            bus.publish(made)
            await asyncio.sleep(0)
        for _ in range(50):
            await asyncio.sleep(0)
        bus.close()
        await asyncio.wait_for(reader, 5)
        wanted = [e.id for e in log.rows if e.id > after and uid in (None, e.uid)]
        assert seen == wanted
        assert bus._bytes <= max(limit, 200)

    asyncio.run(play())


async def read(bus, log, uid, after, seen):
    async for batch in bus.frames(log, uid, after):
        seen += [frame.id for frame in batch]
        await asyncio.sleep(0)


async def test_a_reader_of_one_job_is_woken_by_that_job_alone():
    bus, log = Bus(10_000), Log()
    woken = asyncio.create_task(bus.wait("a"))
    await asyncio.sleep(0)
    bus.publish([event(1, "b")])
    await asyncio.sleep(0)
    assert not woken.done()
    bus.publish([event(2, "a")])
    await asyncio.wait_for(woken, 1)
    assert log.rows == []


async def test_readers_at_one_place_share_one_answer():
    bus = Bus(10_000)
    bus.publish([event(n, "a") for n in range(1, 6)])
    assert bus.in_ring("a", 2) is bus.in_ring("a", 2)
    assert [frame.id for frame in bus.in_ring("a", 2)] == [3, 4, 5]


async def test_after_a_restart_what_is_older_comes_from_the_store():
    bus, log = Bus(10_000), Log()
    log.rows = [event(n, "a") for n in range(1, 4)]
    bus.begin(3)
    seen: list[int] = []
    reader = asyncio.create_task(read(bus, log, "a", 0, seen))
    await asyncio.sleep(0.01)
    made = [event(4, "a")]
    log.rows += made
    bus.publish(made)
    await asyncio.sleep(0.01)
    bus.close()
    await reader
    assert seen == [1, 2, 3, 4]


def test_a_reader_far_behind_gets_the_ring_by_pages_and_all_of_it():
    bus, seen, after = Bus(1 << 20), [], 3
    bus.publish([event(n, "a" if n % 2 else "b") for n in range(1, 2001)])
    while batch := bus.in_ring(None, after):
        assert len(batch) <= 500
        seen += [made.id for made in batch]
        after = seen[-1]
    assert seen == list(range(4, 2001))
    assert [made.id for made in bus.in_ring("a", 0)] == list(range(1, 1000, 2))
    assert [made.id for made in bus.in_ring("b", 1990)] == [1992, 1994, 1996, 1998, 2000]
