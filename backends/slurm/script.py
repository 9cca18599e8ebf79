"""The script of a run, and what `sbatch` is told of it: pure."""

import shlex
import sys
from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any

from backends.slurm.client import Script
from backends.slurm.limits import spare_minutes
from backends.slurm.rows import name_of
from backends.slurm.spec import OPTIONS
from common.backend import JobSpec
from common.job import Job
from common.settings import Settings
from trainyard import guard

#: `exec`: a signal for the script is the guard's, and its exit status is the job's.
_SCRIPT = """#!/bin/bash
# Job {job_id} of Trainyard, attempt {attempt}.
export PATH="${{PATH:-/usr/local/bin:/usr/bin:/bin}}" HOME="${{HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}}"
export PYTHONUNBUFFERED=1
{setup}
cd -- {folder} && exec {command}
"""


def script(job: Job, attempt: int, spec: JobSpec, folder: Path, settings: Settings) -> Script:
    """What is handed to `sbatch` for an attempt."""
    argv = spec.argv if spec.engine == "command" else (*spec.argv, str(folder))
    limits: tuple[str, ...] = (
        "--grace",
        f"{settings.grace_seconds:g}",
        "--log-limit",
        str(settings.max_train_log_bytes),
    )
    own = (sys.executable, "-I", "-S", guard.__file__, *limits, str(folder), str(attempt), "--", *argv)
    text = _SCRIPT.format(
        job_id=job.job_id,
        attempt=attempt,
        setup=settings.slurm_setup or "",
        folder=shlex.quote(str(folder)),
        command=shlex.join(own),
    )
    return Script(tuple(_arguments(job, attempt, spec, folder, settings)), text)


def time_minutes(deadline_minutes: float | None, settings: Settings) -> int | None:
    """Slurm's time limit: a safety net behind the deadline, which the guard keeps."""
    return None if deadline_minutes is None else ceil(deadline_minutes) + spare_minutes(settings)


def _arguments(job: Job, attempt: int, spec: JobSpec, folder: Path, settings: Settings) -> Sequence[str]:
    ours: Mapping[str, Any] = spec.options[OPTIONS]  # type: ignore[assignment]
    name = name_of(job.job_id, job.uid, attempt)
    gpus, kind = ours["gpus"], ours.get("gpu_type")
    values = {
        "job-name": name,
        "comment": f"trainyard job {job.job_id}",
        "output": _literal(folder / "train.log"),
        "open-mode": "append",
        "chdir": str(folder),
        "export": "NIL",
        "partition": ours.get("partition"),
        "account": ours.get("account"),
        "qos": ours.get("qos"),
        "constraint": ours.get("constraint"),
        "nodes": ours["nodes"],
        "ntasks-per-node": 1,
        "cpus-per-task": ours["cpus"],
        "mem": f"{ours['memory_mib']}M",
        "gres": f"gpu:{kind}:{gpus}" if gpus and kind else f"gpu:{gpus}" if gpus else None,
        "time": time_minutes(spec.deadline_minutes, settings),
    }
    found = [f"--{option}={value}" for option, value in values.items() if value is not None]
    return [*found, "--requeue" if ours["restarts"] else "--no-requeue"]


def _literal(path: Path) -> str:
    """A path in which Slurm fills nothing in."""
    return str(path).replace("%", "%%")
