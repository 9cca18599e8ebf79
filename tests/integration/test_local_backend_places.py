"""Devices and CPU slots: never two runs on one, never more than there are; one start for each attempt."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.local.backend import LocalBackend
from common.errors import BackendUnavailable
from tests.local_runs import LocalRuns, ended, follow, guards_of, kinds, local_runs

WAITS = "print('sees', os.environ['CUDA_VISIBLE_DEVICES'], flush=True); until('go')"


@pytest.fixture
async def runs(tmp_path: Path) -> AsyncIterator[LocalRuns]:
    async with local_runs(tmp_path, devices=2) as made:
        yield made


def go(runs: LocalRuns, *jobs: str) -> None:
    for job in jobs:
        (runs.folder(job).path / "go").touch()


async def free(backend: LocalBackend) -> dict[str, int]:
    """Free GPUs of any kind and free CPU slots."""
    found = (await backend.capacity()).free or {}
    return {name: found[name] for name in ("gpu", "cpu")}


async def test_two_runs_never_get_one_device(runs: LocalRuns) -> None:
    backend = runs.backend()
    spec = runs.spec(WAITS, gpus=1)
    first = await runs.submit(backend, spec, runs.job("a"))
    second = await runs.submit(backend, spec, runs.job("b"))
    assert (first.data, second.data) == ({"devices": ["0"]}, {"devices": ["1"]})
    assert await free(backend) == {"gpu": 0, "cpu": 1}
    with pytest.raises(BackendUnavailable, match="waits for 1 GPU: 0 of 2 are free"):
        await runs.submit(backend, spec, runs.job("c"))
    go(runs, "a")
    await ended(backend, first)
    third = await runs.submit(backend, spec, runs.job("c"))
    assert third.data == {"devices": ["0"]}
    go(runs, "b", "c")
    await ended(backend, second)
    await ended(backend, third)
    logs = [runs.folder(job).log.read_text().splitlines()[-1] for job in "abc"]
    assert logs == ["sees 0", "sees 1", "sees 0"]
    assert await free(backend) == {"gpu": 2, "cpu": 1}


async def test_a_gpu_type_gets_a_device_of_that_name(runs: LocalRuns) -> None:
    backend = runs.backend()
    spec = runs.spec("", gpus=1, request={"resources": {"gpu_type": "a100"}})
    handle = await runs.submit(backend, spec)
    assert handle.data == {"devices": ["1"]}
    left = (await backend.capacity()).free or {}
    assert (left["gpu"], left["gpu:Pretend A100"], left["gpu:Pretend H100"]) == (1, 0, 1)
    with pytest.raises(BackendUnavailable, match="0 of 1 are free"):
        await runs.submit(backend, spec, runs.job("other"))
    await ended(backend, handle)


async def test_a_restarted_service_takes_up_what_runs_hold(runs: LocalRuns) -> None:
    spec = runs.spec(WAITS, gpus=1)
    handle = await runs.submit(runs.backend(), spec, runs.job("a"))
    cpu = await runs.submit(runs.backends[0], runs.spec(WAITS), runs.job("cpu"))
    after = runs.backend()
    for known in (handle, cpu):
        after.watch(known, None)
    assert await free(after) == {"gpu": 1, "cpu": 0}
    assert (await runs.submit(after, spec, runs.job("b"))).data == {"devices": ["1"]}
    go(runs, "a", "b", "cpu")


async def test_a_run_whose_handle_was_never_stored_keeps_its_device(runs: LocalRuns) -> None:
    spec = runs.spec(WAITS, gpus=1)
    handle = await runs.submit(runs.backend(), spec, runs.job("a"))
    cpu = await runs.submit(runs.backends[0], runs.spec(WAITS), runs.job("cpu"))
    after = runs.backend()
    await after.start()
    assert await free(after) == {"gpu": 1, "cpu": 0}
    assert (await runs.submit(after, spec, runs.job("b"))).data == {"devices": ["1"]}
    assert await after.find(runs.job("a"), 1) == handle
    go(runs, "a", "b", "cpu")
    await ended(after, handle)
    assert (await after.capacity()).free["gpu"] == 1  # type: ignore[index]
    await ended(runs.backends[0], cpu)
    await runs.until(lambda: not guards_of(runs.backends[0]))
    assert (await after.capacity()).free["cpu"] == 1  # type: ignore[index]


async def test_cpu_runs_at_once_are_limited(runs: LocalRuns) -> None:
    backend = runs.backend()
    first = await runs.submit(backend, runs.spec(WAITS), runs.job("a"))
    with pytest.raises(BackendUnavailable, match=r"waits for a CPU slot: 1 at once \(TRAINYARD_LOCAL_CPU_JOBS\)"):
        await runs.submit(backend, runs.spec(WAITS), runs.job("b"))
    assert await free(backend) == {"gpu": 2, "cpu": 0}
    go(runs, "a")
    await ended(backend, first)
    second = await runs.submit(backend, runs.spec(WAITS), runs.job("b"))
    go(runs, "b")
    assert (await ended(backend, second)).code == 0


async def test_submitting_an_attempt_twice_starts_one_run(runs: LocalRuns) -> None:
    backend = runs.backend()
    spec = runs.spec("print('began', flush=True); until('go')", gpus=1)
    first = await runs.submit(backend, spec)
    second = await runs.backend().submit(runs.job(), 1, spec)
    assert first == second
    assert await free(backend) == {"gpu": 1, "cpu": 1}
    await runs.until(lambda: "began" in runs.folder().log.read_text())
    third = await backend.submit(runs.job(), 1, spec)
    assert third == first
    go(runs, "job-1")
    assert kinds(await follow(backend, first)) == ["RunBegan", "RunEnded"]
    assert runs.folder().log.read_text().count("began") == 1


async def test_two_guards_for_one_attempt_are_one_run_and_one_slot(runs: LocalRuns) -> None:
    backend = runs.backend()
    spec = runs.spec("print('began', flush=True)")
    handle = await runs.submit(backend, spec)
    backend._children.add(backend._start(runs.job(), 1, spec, ()))
    assert (await ended(backend, handle)).code == 0
    await runs.until(lambda: not guards_of(backend))
    assert runs.folder().log.read_text().count("began") == 1


async def test_a_submission_is_found_from_its_first_moment_on(runs: LocalRuns) -> None:
    backend, other = runs.backend(), runs.backend()
    spec = runs.spec("")
    for n in range(8):
        job = runs.job(f"job-{n}")
        handle = await runs.submit(backend, spec, job)
        assert await other.find(job, 1) == handle
        await ended(backend, handle)


async def test_what_was_never_submitted_is_not_found(runs: LocalRuns) -> None:
    backend = runs.backend()
    assert await backend.find(runs.job(), 1) is None
    handle = await runs.submit(backend, runs.spec("", gpus=1))
    assert await runs.backend().find(runs.job(), 1) == handle
    await ended(backend, handle)
    assert await runs.backend().find(runs.job(), 1) == handle
    assert await backend.find(runs.job(), 2) is None
