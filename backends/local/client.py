"""Runs on this machine as their job folders and `/proc` show them: starting, finding, stopping, ending."""

import fcntl
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import sleep

import structlog

from backends.runs.run import Run, claimed, read_record
from common.environment import clean_environment
from common.errors import BackendUnavailable
from common.folder import JobFolder, Pair
from trainyard import guard

log = structlog.get_logger(__name__)

_IN_FOLDER = 'cd -- "$0" && exec "$@"'
_OWNER_TRIES = 50
_EXEC_TRIES = 20
_ASKED = "asked_to_stop"


def start_guard(folder: Path, attempt: int, argv: Sequence[str], grace: float, log_limit: int) -> int:
    """Start a guard in a session of its own, in the job's folder; its pid. It outlives this process.

    Its stdin is a file that was locked before: from this call on until the guard's end the lock says that it is there.
    """
    own = [sys.executable, "-I", "-S", guard.__file__, "--grace", str(grace), "--log-limit", str(log_limit)]
    log = (os.POSIX_SPAWN_OPEN, 2, str(JobFolder(folder).log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    lock = os.open(_start_lock(folder, attempt), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):  # a file system without locks: then `/proc` alone is asked
            fcntl.flock(lock, fcntl.LOCK_SH)
        return os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _IN_FOLDER, str(folder), *own, str(folder), str(attempt), "--", *argv],
            _environment(),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, lock, 0),
                (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                log,
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM],
        )
    finally:
        os.close(lock)


def _environment() -> dict[str, str]:
    """What a run may see of ours; no proxy stands between it and this machine, where it posts its events."""
    env = clean_environment(os.environ)
    names = env.get("no_proxy") or env.get("NO_PROXY") or ""
    direct = names if names.strip() == "*" else ",".join(filter(None, [names, "127.0.0.1,localhost,::1"]))
    return env | {"no_proxy": direct, "NO_PROXY": direct}


def reap(pid: int) -> bool:
    """Whether a guard that this process started has ended; then its entry in the process table is gone."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def on_its_way(folder: Path, attempt: int) -> bool:
    """Whether a guard is at work for an attempt, or was started and is about to be."""
    return _locked(_start_lock(folder, attempt), fcntl.LOCK_EX) or (folder, attempt) in guards()


def guards() -> list[tuple[Path, int]]:
    """The job folder and the attempt of every guard that lives on this machine."""
    found: list[tuple[Path, int]] = []
    unsure = [path for path in Path("/proc").iterdir() if path.name.isdigit()]
    for _ in range(_EXEC_TRIES):
        lines = {path: _command(path) for path in unsure}
        found += filter(None, map(_guarded, lines.values()))
        unsure = [path for path, line in lines.items() if line == b"" and _runs(path)]
        if not unsure:
            break
        sleep(0.005)
    return found


def _command(process: Path) -> bytes:
    """A command line; empty also for a moment while a program is being started."""
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def _runs(process: Path) -> bool:
    """Whether it is a process of ours with a program in it: not a kernel's, not a dead one's."""
    try:
        return bool((process / "exe").readlink())
    except OSError:
        return False


def _start_lock(folder: Path, attempt: int) -> Path:
    return folder / f"guard.{attempt}"


def _guarded(command: bytes) -> tuple[Path, int] | None:
    """What a process guards, by its command line `… guard.py … JOBDIR N -- …`."""
    line = command.split(b"\0")
    own = next((n for n, part in enumerate(line) if part.endswith(b"/guard.py")), None)
    if own is None or b"--" not in line[own:]:
        return None
    end = line.index(b"--", own)
    folder, attempt = line[end - 2 : end]
    return (Path(os.fsdecode(folder)), int(attempt)) if attempt.isdigit() else None


def guard_of(run: Run) -> int | None:
    """The living guard of a claimed run, by its `owner.json`; a pid that now belongs to another process is none."""
    owner = read_record(run.claim / "owner.json")
    if owner is None or owner.get("boot_id") not in (None, _boot_id()):
        return None
    pid = owner.get("pid")
    guarded = _guarded(_command(Path(f"/proc/{pid}"))) if isinstance(pid, int) else None
    return pid if guarded == (run.folder.path, run.pair.attempt) else None


def alive(run: Run) -> bool:
    """Whether a claimed run has its guard: a lock is held, or (where locks don't work) its process is there.

    A guard that has just claimed holds only the lock that it was started with.
    """
    return _locked(run.claim / "lock") or _was_given_a_lock(run) or guard_of(run) is not None


def _was_given_a_lock(run: Run) -> bool:
    return _locked(_start_lock(run.folder.path, run.pair.attempt), fcntl.LOCK_EX)


def _locked(lock: Path, wanted: int = fcntl.LOCK_SH) -> bool:
    """Whether somebody has a lock that `wanted` does not go with."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, wanted | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def stop(folder: JobFolder, uid: str, attempt: int) -> None:
    """Ask a run to leave: SIGTERM to its guard, once; one that has not claimed yet is shut out by the fence.

    Raises `BackendUnavailable` where a guard is at work that has not told its pid yet.
    """
    run = claimed(folder, uid, attempt)
    if run is None:
        if not folder.path.is_dir():
            return
        folder.raise_fence(Pair(attempt + 1))
        run = claimed(folder, uid, attempt)
    for _ in range(_OWNER_TRIES):
        if run is None or run.ended() or (run.claim / "owner.json").exists():
            break
        sleep(0.02)
    if run is None or run.ended() or (run.claim / _ASKED).exists():
        return
    signed = (run.claim / "owner.json").exists()
    if (pid := guard_of(run)) is None:
        if not signed and _was_given_a_lock(run):
            raise BackendUnavailable("the run has begun, but its guard has not said yet which process it is")
        return
    os.kill(pid, signal.SIGTERM)
    (run.claim / _ASKED).touch(0o600)  # a second SIGTERM would mean "leave without a checkpoint"


def dump_stacks(folder: JobFolder, uid: str, attempt: int) -> None:
    """Let every process of a run that can write its stacks into the log; calm when the run is gone."""
    run = claimed(folder, uid, attempt)
    if run is not None and not run.ended() and (pid := guard_of(run)) is not None:
        os.kill(pid, signal.SIGUSR2)


def end(run: Run, grace: float) -> int:
    """Shut a run without a guard out and end what is left of it; how many processes there were. Blocks."""
    try:
        run.folder.raise_fence(Pair(run.pair.attempt + 1))
    except OSError as e:  # no folder any more, or no space: its processes must go all the same
        log.warning("the fence can't be raised", run=run.name, error=str(e))
    return guard.end_run(run.name, grace)


def _boot_id() -> str | None:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
