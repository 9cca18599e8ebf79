"""The parent of every run on every backend: `python -I -S guard.py [options] JOBDIR N -- ARGV...` (docs/TRAINER.md).

It claims the attempt, starts the program in a session of its own, passes signals on, keeps the deadline, kills all that
is left, and as its last act writes `exit.json`. It is run by its path, over the standard library and the `guard_*.py`
beside it alone, so that it also works where nothing else of ours is installed. `guard.py --end RUN` ends what a dead
guard left behind.

In `train.log` its own lines begin with `── `: each attempt with `── attempt <n>.<restart> ── <RFC 3339 time> ──`, the
rest with `── guard: `.
"""

import argparse
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

if not __package__:  # run by its path: `trainyard` is this folder, and `-I -S` keeps everything else out
    sys.modules["trainyard"] = ModuleType("trainyard")
    sys.modules["trainyard"].__path__ = [str(Path(__file__).absolute().parent)]

from trainyard.guard_control import Control, Pair, minutes
from trainyard.guard_processes import end_run as end_run
from trainyard.guard_processes import heeds, members, name, ranks, read, send
from trainyard.guard_processes import processes_of as processes_of

FORMAT = 1
INTERNAL, DISK_FULL, FENCED, CANNOT_RUN, NOT_FOUND = 70, 74, 77, 126, 127
TICK = 1.0  # how often `control.jsonl` and the log's size are looked at
LINGER = 0.5  # what a program that ended leaves its helpers to end by themselves
READ_LINES = ("text", "diffusion")  # engines that take a `stop` line of `control.jsonl` themselves
DUMPING = 1.0  # what a process has to write its stacks before the next one does
WATCHED = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD}
DEFAULTED = WATCHED | {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGQUIT}  # Python ignores two of them, a shell others
PR_SET_CHILD_SUBREAPER = 36
KEEP_SIZE_PUNCH_HOLE = 0x01 | 0x02

libc = ctypes.CDLL(None, use_errno=True)


# ── Files of the job folder ────────────────────────────────────────────────────────────────────────────────────────


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def write_whole(path: Path, content: str, aside: str) -> None:
    """Write beside it, flush, rename: the file is complete or absent. What `aside` had is written over in place."""
    beside = path.with_name(aside)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
        file.write(content.encode())
        file.truncate()
        file.flush()
        os.fsync(file.fileno())
    beside.rename(path)


def claim(folder: Path) -> bool:
    """Make the attempt's folder: whoever makes it runs the attempt."""
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        return True
    return False


def sign(folder: Path) -> None:
    """Say who claimed it, and take the space of `exit.json`: a disk that fills up must not swallow the end."""
    owner: dict[str, Any] = {"format": FORMAT, "host": os.uname().nodename, "pid": os.getpid()}
    owner["boot_id"] = read("sys/kernel/random", "boot_id").decode().strip() or None
    if slurm := os.environ.get("SLURM_JOB_ID"):
        owner["slurm_job_id"] = slurm
    write_whole(folder / "owner.json", json.dumps(owner) + "\n", ".owner.json")
    (folder / ".exit.json").write_text(" " * 512)


def hold(lock: Path, seconds: float) -> tuple[int, str | None]:
    """Lock until the descriptor is closed; the reason where it can't be had, also after waiting for its holder."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor, None
        except OSError as error:
            if not isinstance(error, BlockingIOError) or time.monotonic() > until:
                return descriptor, str(error)
            time.sleep(0.02)


def fenced(job: Path, pair: Pair) -> bool:
    """Whether a newer run has shut this one out; if not, this one shuts out the older ones."""
    fence = job / "attempt"
    with os.fdopen(hold(job / "attempt.lock", 10)[0]):  # or it could be raised between this look and this write
        try:
            n, _, restart = fence.read_text().strip().partition(".")
            present = (int(n), int(restart or 0))
        except FileNotFoundError:
            present = (-1, 0)
        if present < pair:
            write_whole(fence, f"{pair[0]}.{pair[1]}\n", f".attempt.{pair[0]}.{pair[1]}")
        return present > pair


def conclude(folder: Path, code: int | None, number: int | None, reason: str | None) -> bool:
    """Write `exit.json`; tried for some seconds where the disk has no room."""
    outcome = {"format": FORMAT, "code": code, "signal": number, **({"reason": reason} if reason else {}), "at": now()}
    for pause in (0.1, 0.5, 2.0, 4.0, 0.0):
        try:
            write_whole(folder / "exit.json", json.dumps(outcome) + "\n", ".exit.json")
            return True
        except OSError as error:
            complain(f"can't write {folder / 'exit.json'}: {error}; it would say {outcome}")
            time.sleep(pause)
    return False


def complain(text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"guard: {text}\n".encode(errors="backslashreplace"))


class TrainLog:
    """`train.log`: the program's stdout and stderr, and what the guard has to say."""

    def __init__(self, path: Path, limit: int) -> None:
        self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.limit, self.dropped = limit, 0

    def line(self, text: str) -> None:
        """Append a line of its own, also after an unfinished one."""
        try:
            size = self.size()
            start = "\n" if size and os.pread(self.descriptor, 1, size - 1) != b"\n" else ""
            os.write(self.descriptor, f"{start}── {text}\n".encode(errors="backslashreplace"))
        except OSError as error:
            complain(f"{text.removeprefix('guard: ')} (train.log can't be written: {error})")

    def say(self, text: str) -> None:
        self.line(f"guard: {text}")

    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def settle(self, size: int) -> None:
        """Wait until a process wrote what it was asked for: the log grew past `size`, and rests; or a signal waits."""
        until, last = time.monotonic() + DUMPING, size
        while ((now := self.size()) == size or now != last) and time.monotonic() < until and not signal.sigpending():
            last = now
            time.sleep(0.1)

    def trim(self) -> None:
        """Past the limit: give the middle back to the file system, keep a quarter of the limit at each end."""
        info = os.fstat(self.descriptor)
        if info.st_blocks * 512 <= self.limit:
            return
        start = max(self.limit // 4, 4096) // 4096 * 4096
        end = (info.st_size - self.limit // 4) // 4096 * 4096
        if end - max(start, self.dropped) < self.limit // 8:
            return
        if libc.fallocate(self.descriptor, KEEP_SIZE_PUNCH_HOLE, ctypes.c_int64(start), ctypes.c_int64(end - start)):
            why = os.strerror(ctypes.get_errno())
            self.say(f"this log is over its limit of {self.limit} bytes, but its middle can't be dropped here: {why}")
            self.limit = sys.maxsize
            return
        self.dropped = end
        self.say(f"this log is over its limit of {self.limit} bytes: bytes {start} to {end} were dropped")


# ── The run ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Guard:
    """One run, from the program's start to the last process of it."""

    def __init__(self, job: Path, folder: Path, pair: Pair, log: TrainLog, grace: float) -> None:
        self.job, self.folder, self.pair, self.log, self.grace = job, folder, pair, log, grace
        self.spec: dict[str, Any] = json.loads((job / "spec.json").read_bytes())
        self.run = f"{self.spec['uid']}.{pair[0]}.{pair[1]}"
        self.reads_lines = self.spec.get("engine") in READ_LINES
        self.minutes = minutes(self.spec.get("deadline_minutes"))
        self.control = Control(job / "control.jsonl", pair)
        self.pid, self.began = 0, time.monotonic()
        self.status: int | None = None
        self.kill_at: float | None = None
        self.ahead = False
        """Whether the program had its SIGTERM because of a `stop` line, and the signal itself may still come."""
        self.reason: str | None = None

    def environment(self) -> dict[str, str]:
        """What the program gets: no setting of the service's, the secrets' `env`, and where it belongs."""
        env = {key: value for key, value in os.environ.items() if not key.startswith("TRAINYARD_")}
        with contextlib.suppress(FileNotFoundError):
            secrets = json.loads((self.job / f"secrets.{self.pair[0]}").read_bytes())
            env |= self.reporting(secrets.get("job_token"), secrets.get("events_url")) | (secrets.get("env") or {})
        if (devices := self.spec.get("devices")) is not None:
            env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, devices))
        if (threads := self.spec.get("threads")) is not None:
            env["OMP_NUM_THREADS"] = str(threads)
        own = {"JOB_ID": self.spec["job_id"], "RUN": self.run}
        own |= {"SPEC": str(self.job / "spec.json"), "ATTEMPT_DIR": str(self.folder)}
        return env | {f"TRAINYARD_{key}": str(value) for key, value in own.items()}

    def reporting(self, token: str | None, url: str | None) -> dict[str, str]:
        """By what right and where the program posts its events; Hugging Face's Kubeflow reporting finds it too."""
        if not token or not url:
            return {}
        write_whole(path := self.folder / "job_token", token, ".job_token")
        kubeflow = {"SERVER_URL": f"{url}/kubeflow", "SERVER_TOKEN": str(path)}
        own = {"TRAINYARD_JOB_TOKEN": token, "TRAINYARD_EVENTS_URL": url}
        return own | {f"KUBEFLOW_TRAINER_{key}": value for key, value in kubeflow.items()}

    def start(self, argv: list[str]) -> int | None:
        """Start the program; the exit code where it can't be started."""
        if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
            self.log.say(f"can't become a sub-reaper: {os.strerror(ctypes.get_errno())}")
        env = self.environment()
        files = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        copies = [(os.POSIX_SPAWN_DUP2, self.log.descriptor, number) for number in (1, 2)]
        try:
            self.pid = os.posix_spawnp(
                argv[0], argv, env, file_actions=[*files, *copies], setsid=True, setsigmask=[], setsigdef=DEFAULTED
            )
        except (OSError, ValueError) as error:
            self.log.say(f"can't start {argv[0]!r}: {getattr(error, 'strerror', None) or error}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN
        self.began = time.monotonic()
        return None

    def watch(self) -> None:
        """Until the program is over: signals, deadline, grace, log; then end what it left behind."""
        while self.status is None:
            self.keep_time()
            self.log.trim()
            due = self.kill_at if self.kill_at is not None else self.deadline()
            wait = TICK if due is None else min(TICK, max(0.0, due - time.monotonic()))
            if self.status is None and (caught := signal.sigtimedwait(WATCHED, wait)):
                self.take(caught.si_signo)
            self.reap()
        until = time.monotonic() + LINGER
        while self.left() and time.monotonic() < until:
            signal.sigtimedwait({signal.SIGCHLD}, 0.05)
        self.sweep("the program had left them behind")

    def deadline(self) -> float | None:
        return None if self.minutes is None else self.began + 60 * self.minutes

    def keep_time(self) -> None:
        self.minutes = self.control.deadline(self.minutes)
        due, present = self.deadline(), time.monotonic()
        if self.kill_at is None and self.control.stop is not None:
            self.stop_by_line(self.control.stop)
        elif self.kill_at is None and due is not None and present >= due:
            self.reason = "time_limit"
            self.stop(f"the deadline of {self.minutes:g} min is over")
        elif self.kill_at is not None and present >= self.kill_at:
            self.sweep(f"the grace of {self.grace:g} s is over")

    def take(self, number: int) -> None:
        if number == signal.SIGTERM and self.ahead:
            self.ahead = False
            self.log.say("SIGTERM came: the program has had it, for the `stop` line")
        elif number in (signal.SIGTERM, signal.SIGINT):
            self.stop(f"{signal.Signals(number).name} came")
        elif number in (signal.SIGUSR1, signal.SIGUSR2):
            self.pass_on(number)

    def stop(self, why: str) -> None:
        self.begin_grace(f"{why}: SIGTERM is passed on")
        self.pass_on(signal.SIGTERM)

    def stop_by_line(self, why: str) -> None:
        """In place of a SIGTERM that may have been lost: a second one would mean "without a checkpoint"."""
        if self.reads_lines:
            self.begin_grace(f"a `stop` line came ({why}): the program reads it too")
        else:
            self.ahead = True
            self.stop(f"a `stop` line came ({why})")

    def begin_grace(self, why: str) -> None:
        if self.kill_at is None:
            self.kill_at = time.monotonic() + self.grace
            self.log.say(f"{why}, SIGKILL follows in {self.grace:g} s")

    def pass_on(self, number: int) -> None:
        """To the ranks or the program. A wish (USR1, USR2) goes only to a process that would not die of it."""
        self.reap()
        for pid in ranks(members(self.run, children=True)) or ([self.pid] if self.status is None else []):
            if number != signal.SIGTERM and not heeds(pid, number):
                self.log.say(f"{signal.Signals(number).name} not passed on: {name(pid)} ({pid}) has no handler for it")
                continue
            if number == signal.SIGUSR2:
                self.log.say(f"the stacks of {name(pid)} ({pid}):")
            size = self.log.size()
            send(pid, number)
            if number != signal.SIGUSR1:
                send(pid, signal.SIGCONT)  # one that was stopped heeds nothing
            if number == signal.SIGUSR2:
                self.log.settle(size)  # or two would write between each other's lines

    def reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (child := os.waitpid(-1, os.WNOHANG))[0]:
                if child[0] == self.pid:
                    self.status = child[1]

    def left(self) -> set[int]:
        self.reap()
        return set(members(self.run, children=True))

    def sweep(self, why: str) -> None:
        """SIGKILL until nothing of the run is left; a process that may not be killed is named and passed over."""
        killed: dict[int, str] = {}
        refused: set[int] = set()
        late: float | None = time.monotonic() + 10
        while left := self.left() - refused:
            for pid in sorted(left, key=lambda pid: (pid != self.pid, pid)):  # or it exits for the loss of a child
                killed.setdefault(pid, name(pid))
                if not send(pid, signal.SIGKILL):
                    refused.add(pid)
                    self.log.say(f"may not kill {killed.pop(pid)} ({pid}): it belongs to another user")
            if late and time.monotonic() > late:
                late = None
                self.log.say(f"waiting for what SIGKILL has not ended yet: {', '.join(map(str, sorted(left)))}")
            time.sleep(0.02)
        if killed:
            named = ", ".join(f"{title} ({pid})" for pid, title in sorted(killed.items())[:20])
            self.log.say(f"killed {len(killed)} with SIGKILL, {why}: {named}{', …' if len(killed) > 20 else ''}")


def guard(job: Path, pair: Pair, argv: list[str], grace: float, limit: int) -> int:
    """Claim, run, conclude; this process's exit status is the program's (128 + signal)."""
    folder = job / "attempts" / f"{pair[0]}.{pair[1]}"
    number: int | None = None
    run: Guard | None = None
    log: TrainLog | None = None
    if not claim(folder):
        return 0
    try:
        _, unlocked = hold(folder / "lock", 1)  # first, for it says that this run lives: a disk may be slow to sign
        sign(folder)
        if fenced(job, pair):
            return FENCED if conclude(folder, FENCED, None, None) else DISK_FULL
        log = TrainLog(job / "train.log", limit)
        log.line(f"attempt {pair[0]}.{pair[1]} ── {now()} ──")
        if unlocked:
            log.say(f"no lock on this file system: {unlocked}")
        run = Guard(job, folder, pair, log, grace)
        if (code := run.start(argv)) is None:
            run.watch()
    except Exception as error:
        code = DISK_FULL if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) else INTERNAL
        (log.say if log else complain)(f"failed: {type(error).__name__}: {error}")
        if run and run.pid:
            run.sweep("the guard failed")
    if code is None and run and run.status is not None:
        exited = os.WIFEXITED(run.status)
        code, number = (os.WEXITSTATUS(run.status), None) if exited else (None, os.WTERMSIG(run.status))
    done = conclude(folder, code, number, run.reason if run and code != 0 else None)
    return (code if code is not None else 128 + (number or 0)) if done else DISK_FULL


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("guard.py", usage="%(prog)s [options] JOBDIR N -- ARGV... | --end RUN [--grace S]")
    parser.add_argument("job", nargs="?", type=Path, metavar="JOBDIR")
    parser.add_argument("attempt", nargs="?", type=int, metavar="N", help="the job's attempt at submission")
    parser.add_argument("--grace", type=float, metavar="SECONDS", help="SIGTERM to SIGKILL (60; with --end 0)")
    parser.add_argument("--log-limit", type=int, default=2 << 30, metavar="BYTES", help="of train.log (2 GiB)")
    parser.add_argument("--end", metavar="RUN", help="end every process of a run whose guard is gone")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options, argv = parser.parse_args(arguments[:cut]), arguments[cut + 1 :]
    if options.end:
        end_run(options.end, options.grace or 0.0)
        return 0
    if options.attempt is None or not argv:
        parser.error("JOBDIR, N and, after --, the program are needed")
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pair = (options.attempt, int(os.environ.get("SLURM_RESTART_COUNT") or 0))
    grace = 60.0 if options.grace is None else options.grace
    try:
        return guard(options.job.absolute(), pair, argv, grace, options.log_limit)
    except OSError as error:
        complain(f"can't claim attempt {pair[0]}.{pair[1]} in {options.job}: {error}")
        return DISK_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else INTERNAL


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
