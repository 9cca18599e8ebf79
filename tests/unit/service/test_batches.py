"""Items of a source taken together: their order, its end, its failure, and that it is left."""

import asyncio

import pytest

from service.batches import batches


async def test_what_came_meanwhile_is_taken_together_and_in_order():
    async def source():
        for n in range(10):
            yield n
            if n == 4:
                await asyncio.sleep(0.02)

    assert [batch async for batch in batches(source(), 100)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


async def test_a_source_that_is_quicker_than_its_reader_waits():
    made = []

    async def source():
        for n in range(100):
            made.append(n)
            yield n

    seen = []
    async for batch in batches(source(), 8):
        await asyncio.sleep(0)
        seen += batch
        assert len(made) - len(seen) <= 16
    assert seen == list(range(100))


async def test_a_failure_comes_behind_what_came_before_it():
    async def source():
        yield 1
        raise OSError("gone")

    taken = batches(source(), 8)
    assert await anext(taken) == [1]
    with pytest.raises(OSError, match="gone"):
        await anext(taken)


async def test_leaving_it_closes_the_source():
    closed = []

    async def source():
        try:
            while True:
                yield 1
                await asyncio.sleep(0)
        finally:
            closed.append(True)

    taken = batches(source(), 8)
    assert (await anext(taken))[0] == 1
    await taken.aclose()
    assert closed == [True]
