"""Checkpoints in a bucket, which the service does not look into: their run tells which of them are kept there."""

import pytest

from common.event import JobCheckpoint
from service.checkpoints import kept, newest
from tests.unit.service.test_checkpoints import saved, store  # noqa: F401 - fixtures

BUCKET = "s3://bucket/results/a/checkpoints"


def told(step, left, **more):
    return JobCheckpoint(step=step, uri=f"{BUCKET}/step-{step}", extra={"kept": left}, **more)


@pytest.fixture
async def steps(store, saved):  # noqa: F811
    async def of(*bodies):
        await store.append("u", bodies)
        return [entry["step"] for entry in await kept(store, "u")]

    return of


async def test_those_that_were_removed_are_not_listed_and_the_best_is(steps):
    assert await steps(told(2, [2], kind="best"), told(4, [2, 4])) == [2, 4]
    assert await steps(told(6, [2, 6])) == [2, 6]


async def test_one_that_came_nowhere_else_is_listed_beside_them_and_counts_as_the_newest(steps, store, saved):  # noqa: F811
    await steps(told(4, [4]))
    folder = await saved(8)
    assert await steps(told(6, [6])) == [8, 6]
    assert (await newest(store, "u"))["uri"] == str(folder)


async def test_one_that_came_into_the_bucket_later_is_gone_on_from_there(steps, store, saved):  # noqa: F811
    await saved(8)
    assert await steps(told(8, [8])) == [8, 8]
    assert (await newest(store, "u"))["uri"] == f"{BUCKET}/step-8", "every backend reads it"


@pytest.mark.parametrize("strange", [7, "4", None])
async def test_what_a_program_says_that_is_no_list_changes_nothing(steps, strange):
    assert await steps(told(2, strange), told(4, strange)) == [2, 4]
