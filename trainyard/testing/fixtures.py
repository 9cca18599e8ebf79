"""What the suite has to know of a backend: one mixin, which its author's test class overrides where needed."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from common.backend import JobSpec
from common.environment import clean_environment
from common.folder import JobFolder, Pair
from common.json_text import to_text
from common.settings import Settings
from trainyard import guard
from trainyard.testing.play import Play
from trainyard.testing.service import Document, RunningService


class BackendFixtures:
    """The knowledge about one backend. `name` must be set; all else has a default that fits where runs are under the
    guard on this machine, in the job folder, and `engine: command` is taken.
    """

    name: ClassVar[str]
    """The name under which the backend is registered (entry point group `trainyard.backends`)."""
    pace: ClassVar[float] = 1.0
    """How much slower than processes of this machine: stretches every run that must last, and every wait."""
    exit_codes: ClassVar[tuple[int, ...]] = (1, 65, 71, 76)
    """Exit codes with which the suite lets runs fail (docs/TRAINER.md has the table)."""
    lost: ClassVar[Play] = Play(steps=6000, seconds=600, child=True)
    """The run that the suite loses (`lose`) as soon as it has told its first step."""
    signals: ClassVar[tuple[int, ...]] = (signal.SIGKILL,)
    """Signals of which the suite lets a run die; empty where the backend can't see them."""

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Settings:
        """The service's settings. Override it for settings of your own; start from `self.default_settings`."""
        return self.default_settings(tmp_path)

    @pytest_asyncio.fixture
    async def service(self, settings: Settings) -> AsyncGenerator[RunningService, None]:
        """The real service with the backend under test, running. Rarely overridden."""
        made = RunningService(settings, self.pace)
        await made.start()
        try:
            yield made
        finally:
            await made.end()

    def default_settings(self, tmp_path: Path, **more: Any) -> Settings:
        """Quick ones, in a folder whose name has a blank and quotes; `more` adds or replaces some."""
        quick: dict[str, Any] = {
            "backend": self.name,
            "poll_seconds": 0.05,
            "grace_seconds": 1.0 * self.pace,
            "lost_seconds": 0.6 * self.pace,
            "retry_seconds": 0.1,
            "min_free_bytes": 0,
            "stop_seconds": 1.0,
            "mirror_seconds": 0.2,
            "local_cpu_jobs": 4,
        }
        return Settings(data_dir=tmp_path / "a data 'folder'", **{**quick, **more})

    def document(self, job_id: str, play: Play, settings: Settings) -> Document:
        """The request whose run does what `play` says.

        The default asks for one CPU and hands the suite's tiny trainer over as `extra_parameters.command`. Override it
        where your backend needs keys of its own: call `super().document(…)`, add to it.
        """
        place = settings.data_dir.parent
        return {
            "job_id": job_id,
            "backend": self.name,
            "base_model": {"provider": "huggingface", "model_name": "conformance/none"},
            "resources": {"gpus": 0, "cpus": 1, "memory_gb": 1, "max_duration_minutes": 10},
            "datasets": [{"source": "s3://conformance/none.jsonl", "format": "jsonl"}],
            "artifacts": {"log_uri": str(place / "logs"), "output_uri": str(place / "results")},
            "extra_parameters": {"command": play.command()},
        }

    def refused(self) -> Mapping[str, Mapping[str, object]]:
        """What this backend can't do: the path of the error → what makes a good document wrong, by dotted paths.

        One entry at least; with several they are also posted together, and each must be told.
        """
        return {"resources.gpus": {"resources.gpus": 100_000}}

    def broken(self, service: RunningService, job_id: str) -> AbstractAsyncContextManager[None]:
        """Inside the block the cluster can't take the job `job_id`; afterwards it can again.

        Break something real: stop the scheduler's daemon, take the last slot, point a client at a closed port.
        """
        raise AssertionError(f"{type(self).__name__} must override `broken`, which breaks and mends the cluster")

    async def lose(self, service: RunningService, job_id: str) -> None:
        """Make a running job's run vanish so that it can leave no outcome: as a power cut of its machine would.

        The default kills its guard, and leaves the program that it guarded: that must be ended too.
        """
        attempts = service.folder(job_id).path / "attempts"
        newest = max(attempts.iterdir(), key=lambda path: [int(part) for part in path.name.split(".")])
        os.kill(int(_record(newest / "owner.json")["pid"]), signal.SIGKILL)

    async def start_again(self, service: RunningService, job_id: str) -> None:
        """Let the cluster begin a run that has ended once more, as a requeue or a restarted daemon might.

        The default hands the same attempt over again and, where its spec asks for a job folder, starts the guard there
        as a requeue does.
        """
        job, spec = (await service.record(job_id)).job, await service.spec(job_id)
        await service.backend.submit(job, job.attempt, spec)
        if spec.folder:
            await _requeued(service.folder(job_id), job.attempt, spec)

    def began(self, service: RunningService, job_id: str, events: list[Document]) -> int:
        """How often the job's program was started, over all attempts. `events`: the job's, as served.

        The default counts the line that the suite's trainer writes into `train.log` first of all.
        """
        log = service.folder(job_id).log
        return log.read_text(errors="replace").count(" began\n") if log.exists() else 0

    async def alive(self, service: RunningService, job_id: str) -> list[str]:
        """What is left of a job's runs: process ids, pods, …; the default: processes with its `TRAINYARD_RUN`."""
        uid = (await service.record(job_id)).job.uid
        attempts = service.folder(job_id).path / "attempts"
        pairs = [path.name for path in attempts.iterdir()] if attempts.is_dir() else []
        found = [await asyncio.to_thread(guard.processes_of, f"{uid}.{pair}") for pair in pairs]
        return [str(pid) for pids in found for pid in pids]

    async def visible(self, service: RunningService, job_id: str) -> Mapping[str, str]:
        """What other users of the cluster may see of a running job: a name for each place → its text.

        The default has the handle, the command lines of all its processes and its guard's environment. Add whatever
        your cluster shows of a job: its description, the script that was handed over, annotations.
        """
        shown = {"the handle": to_text((await service.handle(job_id)).data)}
        pids = [int(pid) for pid in await self.alive(service, job_id)]
        guards = [int(_record(path)["pid"]) for path in service.folder(job_id).path.glob("attempts/*/owner.json")]
        for pid in pids + guards:
            shown[f"the command line of process {pid}"] = _proc(pid, "cmdline")
        for pid in guards:
            shown[f"the environment of the guard ({pid})"] = _proc(pid, "environ")
        return shown


async def _requeued(folder: JobFolder, attempt: int, spec: JobSpec) -> None:
    """The first restart of an attempt, from its guard's start to its end."""
    argv = spec.argv if spec.engine == "command" else (*spec.argv, str(folder.path))
    own = (sys.executable, "-I", "-S", guard.__file__, str(folder.path), str(attempt), "--", *argv)
    environ = clean_environment(os.environ) | {"SLURM_RESTART_COUNT": "1"}
    null = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*own, cwd=folder.path, env=environ, stdout=null, stderr=null)
    code = await process.wait()
    claim = folder.attempt(Pair(attempt, 1))
    assert claim.is_dir(), f"the guard that was to begin the run again left with {code}, and without {claim}"


def _record(path: Path) -> dict[str, Any]:
    """A record that a guard wrote."""
    return dict(json.loads(path.read_text()))


def _proc(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
    except OSError:
        return ""
