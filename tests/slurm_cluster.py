"""A real Slurm on this machine for tests: made by `scripts/slurm-up`, broken and mended on purpose."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
INSTALL = "scripts/slurm-up --install"
_UP_SECONDS = 280
_CALL_SECONDS = 30
_LINES = ("KillWait=30", "PreemptType=preempt/partition_prio", "PreemptMode=CANCEL")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")


class Cluster:
    """Two nodes `n1` and `n2`, each with 4 processors, 8000 MiB and 2 GPUs that are none."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.conf = str(folder / "etc" / "slurm.conf")

    def up(self) -> None:
        """Start it, or what of it is not running."""
        _script("slurm-up", *self.options, str(self.folder))

    def mend(self) -> None:
        """Start what a test stopped, and end what it left."""
        if not all(map(_lives, self._pids())):
            self.up()
        self.bring_nodes_back()
        if jobs := self.call("squeue", "-h", "-o", "%A").split():
            self.call("scancel", *set(jobs))
            self.until(lambda: not self.call("squeue", "-h", "-o", "%A"))

    def call(self, *command: str) -> str:
        """What one of Slurm's commands prints."""
        environ = {**os.environ, "SLURM_CONF": self.conf}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_CALL_SECONDS)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def kill(self, daemon: str, number: signal.Signals = signal.SIGKILL) -> None:
        """End one of the daemons, as its pid file names it: `slurmctld`, `munged`, `slurmd.n1`."""
        file = self.folder / "run" / f"{daemon}.pid"
        pid = int(file.read_text())
        os.kill(pid, number)
        self.until(lambda: not _lives(pid))

    def _pids(self) -> list[int]:
        files = [self.folder / "run" / f"{name}.pid" for name in ("munged", "slurmctld", "slurmd.n1", "slurmd.n2")]
        return [int(file.read_text()) if file.exists() else 0 for file in files]

    @contextmanager
    def without(self, daemon: str) -> Iterator[None]:
        """Inside the block the daemon is not there."""
        self.kill(daemon, signal.SIGTERM)
        try:
            yield
        finally:
            self.up()

    @contextmanager
    def hung(self, daemon: str) -> Iterator[None]:
        """Inside the block the daemon takes calls and answers none."""
        pid = int((self.folder / "run" / f"{daemon}.pid").read_text())
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def lose_nodes(self) -> None:
        """Both are declared down: their jobs end at once, or wait to be begun again."""
        for node in ("n1", "n2"):
            self.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def bring_nodes_back(self) -> None:
        """Some come back by themselves."""
        for line in self.call("sinfo", "-h", "-N", "-o", "%N %t").splitlines():
            node, state = line.split()
            if state.startswith(("down", "drain")):
                self.call("scontrol", "update", f"nodename={node}", "state=resume")

    def jobs(self, fields: str = "%A|%j|%T|%r") -> list[list[str]]:
        """All that Slurm remembers."""
        return [line.split("|") for line in self.call("squeue", "-h", "-t", "all", "-o", fields).splitlines()]

    def states(self) -> dict[str, str]:
        return {number: state for number, _, state, _ in self.jobs()}

    def until(self, holds: Callable[[], object], seconds: float = 90) -> None:
        late = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < late, f"not within {seconds} s"
            time.sleep(0.05)


@contextmanager
def slurm_cluster(*options: str) -> Iterator[Cluster]:
    """A cluster of its own; where Slurm is not installed the test is skipped, and in CI it is installed."""
    _installed(*(option for option in options if option == "--dbd"))
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    made = Cluster(folder, *(part for line in _LINES for part in ("--conf", line)), *options)
    try:
        made.up()
        yield made
    finally:
        with suppress(subprocess.CalledProcessError):
            _script("slurm-down", "--purge", str(folder))
        shutil.rmtree(folder, ignore_errors=True)


def _installed(*options: str) -> None:
    programs = (*_PROGRAMS, "slurmdbd", "mariadbd") if options else _PROGRAMS
    missing = [name for name in programs if shutil.which(name) is None]
    if not missing and os.geteuid() == 0:
        return
    if missing and os.environ.get("TRAINYARD_CI"):
        _script("slurm-up", "--install", *options)
        return
    why = f"{', '.join(missing)} not installed" if missing else "slurmd needs root"
    pytest.skip(f"{why}: `sudo {' '.join((INSTALL, *options))}` would do")


def _script(name: str, *arguments: str) -> str:
    done = subprocess.run([SCRIPTS / name, *arguments], capture_output=True, text=True, timeout=_UP_SECONDS)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, name, done.stdout, done.stderr)
    return done.stdout


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
