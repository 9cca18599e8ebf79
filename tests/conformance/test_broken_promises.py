"""The suite bites: a backend that breaks one promise fails, and the message says which one."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BACKENDS = """
import asyncio, time
from unittest.mock import patch
from attrs import evolve
from backends.local.backend import LocalBackend
from backends.simulated.backend import SimulatedBackend
from common.backend import Handle, RunEnded
from common.event import JobProgress
from trainyard import guard

class Impure(SimulatedBackend):
    name = "impure"
    def build_job_spec(self, request):
        return evolve(super().build_job_spec(request), lane=f"lane-{time.monotonic()}")

class Lax(SimulatedBackend):
    name = "lax"
    def validate_request(self, request): return []

class Repeating(SimulatedBackend):
    name = "repeating"
    def watch(self, handle, cursor): return super().watch(handle, None)

class Forgetful(SimulatedBackend):
    name = "forgetful"
    async def watch(self, handle, cursor):
        async for event in super().watch(handle, cursor):
            if getattr(event.what, "step", None) != 3 or isinstance(event.what, RunEnded):
                yield event

class Deaf(SimulatedBackend):
    name = "deaf"
    async def cancel(self, handle, grace): pass

class Cheerful(SimulatedBackend):
    name = "cheerful"
    async def watch(self, handle, cursor):
        async for event in super().watch(handle, cursor):
            yield evolve(event, what=RunEnded(code=0)) if isinstance(event.what, RunEnded) else event

class Panicking(SimulatedBackend):
    name = "panicking"
    async def watch(self, handle, cursor):
        async for event in super().watch(handle, cursor):
            if isinstance(event.what, JobProgress) and not self.context.devices.free():
                yield evolve(event, what=RunEnded(code=1))
                return
            yield event

class Swallowing(SimulatedBackend):
    name = "swallowing"
    async def send(self, handle, command): pass

class Leaky(LocalBackend):
    name = "leaky"
    async def submit(self, job, attempt, spec):
        secret = (self.context.job_folder(job.job_id) / f"secrets.{attempt}").read_text()
        return evolve(await super().submit(job, attempt, spec), data={"devices": [], "secrets": secret})

class Lending(LocalBackend):
    name = "lending"
    async def submit(self, job, attempt, spec):
        with patch("backends.local.client.clean_environment", dict):
            return await super().submit(job, attempt, spec)

class Blind(LocalBackend):
    name = "blind"
    async def find(self, job, attempt): return None

class Fenceless(LocalBackend):
    name = "fenceless"
    async def submit(self, job, attempt, spec):
        (self.context.job_folder(job.job_id) / "attempt").unlink(missing_ok=True)
        return await super().submit(job, attempt, spec)

class Reopening(LocalBackend):
    name = "reopening"
    async def submit(self, job, attempt, spec):
        handle = await super().submit(job, attempt, spec)
        (self.context.job_folder(job.job_id) / "attempt").write_text(f"{attempt}.0")
        return handle

class Doubling(LocalBackend):
    name = "doubling"
    submitted, second = False, None
    async def submit(self, job, attempt, spec):
        if self.submitted:
            self.second = f"{job.uid}.{attempt + 1}.0"
            await asyncio.to_thread(self._start, job, attempt + 1, spec, ())
            log = self.context.job_folder(job.job_id) / "train.log"
            async with asyncio.timeout(60):
                while log.read_text().count(" began\\n") < 2:
                    await asyncio.sleep(0.02)
        self.submitted = True
        return await super().submit(job, attempt, spec)
    async def close(self):
        if self.second is not None:
            await asyncio.to_thread(guard.end_run, self.second)  # the test leaves nothing behind
        await super().close()
"""
SUITES = """
import pytest_asyncio
from backends.simulated.backend import SimulatedBackend
from tests.conformance import test_local as local, test_simulated as simulated

def suite(base, name, pace):
    return type(f"Test{name.title()}", (base,), {"name": name, "pace": pace, "__module__": __name__})

for _name in ("impure", "lax", "repeating", "forgetful", "cheerful", "swallowing"):
    globals()[f"Test{_name.title()}"] = suite(simulated.TestSimulated, _name, 0.5)
TestPanicking = suite(simulated.TestSimulated, "panicking", 2.0)  # its steps must not be over before the cluster breaks

class TestDeaf(suite(simulated.TestSimulated, "deaf", 0.25)):  # its limit has to pass
    @pytest_asyncio.fixture(autouse=True)
    async def hears_in_the_end(self, service):
        yield
        await SimulatedBackend.cancel(service.backend, await service.handle("running"), 0)

for _name in ("leaky", "lending", "blind", "fenceless", "reopening", "doubling"):
    globals()[f"Test{_name.title()}"] = suite(local.TestLocal, _name, 1.0)
"""
RUN = "import sys; sys.path[:0] = {path!r}; import pytest; sys.exit(pytest.main(sys.argv[1:]))"
BROKEN = {
    "impure": ("the_same_request_gives_the_same_spec", "`build_job_spec` is pure"),
    "lax": ("what_it_can_not_do_is_refused_with_its_path", "a FieldError whose path is 'resources.gpus'"),
    "repeating": ("watching_again_goes_on_from_the_cursor", "`watch(handle, cursor)` tells what comes behind"),
    "forgetful": ("a_run_is_told_to_its_end", "every event of a run reaches the job, once and in order"),
    "deaf": ("a_running_job_is_cancelled", "job running is not ended"),
    "cheerful": ("a_failure_has_its_exit_code", "a run that leaves with not 0 failed"),
    "panicking": ("a_cluster_that_breaks_fails_no_running_job", "one failed question never means a run is gone"),
    "swallowing": ("the_stacks_of_a_run_are_shown_on_demand", "a command without its capability is never taken"),
    "leaky": ("secrets_are_not_visible_from_outside", "the handle has hf_conformance_very_secret_token"),
    "lending": ("secrets_are_not_visible_from_outside", "the service's own environment, which may hold its token"),
    "blind": ("a_second_submit_of_an_attempt_is_the_same_run", "`find` gives the handle of a run that lives"),
    "fenceless": ("a_late_start_leaves_without_an_effect", "a run that was shut out ends with 77"),
    "reopening": ("a_finished_job_is_never_started_again", "a job that has ended is never started again"),
    "doubling": ("a_second_submit_of_an_attempt_is_the_same_run", "an attempt is started at most once"),
}


@pytest.mark.slow
def test_each_broken_promise_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken_backends.py").write_text(BACKENDS)
    info = tmp_path / "broken_backends-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken_backends\nVersion: 1.0\n")
    points = "".join(f"{name} = broken_backends:{name.title()}\n" for name in BROKEN)
    (info / "entry_points.txt").write_text(f"[trainyard.backends]\n{points}")
    suites = tmp_path / "test_broken.py"
    suites.write_text(SUITES)
    chosen = [f"{suites}::Test{name.title()}::test_{promise}" for name, (promise, _) in BROKEN.items()]
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\nasyncio_default_fixture_loop_scope = function\n")
    code = RUN.format(path=[str(ROOT), str(tmp_path)])
    argv = [sys.executable, "-c", code, "-q", "-p", "no:cacheprovider", "--show-capture=no", "--tb=short"]
    done = subprocess.run([*argv, *chosen], cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False)
    assert f"{len(BROKEN)} failed" in done.stdout, done.stdout[-6000:] + done.stderr[-3000:]
    missing = {name: said for name, (_, said) in BROKEN.items() if said not in done.stdout}
    assert not missing, (missing, done.stdout[-12000:])
