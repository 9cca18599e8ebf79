"""Slurm's command line: the one way to the cluster. Others (slurmrestd, ssh) would have the same methods."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from attrs import frozen

from backends.slurm.rows import ACCOUNT_FIELDS, NODE_FIELDS, QUEUE_FIELDS, Nodes, Row, accounted, nodes, queued
from common.errors import BackendFull, BackendRefused, BackendUnavailable
from common.hands import Hands

#: What says that the cluster can't be asked now, or has no room now; the same call may succeed later.
_LATER = re.compile(
    r"contact|authentication|munge|timed? ?out|connect|communicat|zero bytes|standby|temporar|try again|unexpected"
    r"|i/o error|no space|disk quota|inactive or drain|slurmdbd|unable to process configuration|configuration source",
    re.IGNORECASE,
)
#: What says that the user has as many jobs as the site allows; other limits of a policy are said by the same sentence.
_FULL = re.compile(r"(assoc|qos)\w*Submit\w*Limit|MaxSubmit|MaxJobs", re.IGNORECASE)
#: Said of every limit; which one, newer Slurms say in a line before.
_POLICY = "job submit limit"
#: Where `sbatch` says why: what stands before it may be a site's own words.
_FAILED = "Batch job submission failed:"
#: Of those what says that the call never reached the cluster: nothing can have come of it.
_UNREACHED = re.compile(
    r"connect failure|authentication|unable to process configuration|configuration source", re.IGNORECASE
)
_GONE = re.compile(r"invalid job id|already completing|already completed|can not be altered|not running", re.IGNORECASE)
_OURS = re.compile(r"TRAINYARD_\w+|(SBATCH|SQUEUE|SCANCEL|SACCT|SINFO)_\w+|SLURM_(?!CONF$|CLUSTERS$|JWT$)\w+")
_MASK = 0o077
_SAID = 500
_THERE_SECONDS = 10.0
_KILLED_SECONDS = 1.0


class NotReached(BackendUnavailable):
    """The call never reached the cluster."""


class SbatchRefused(BackendRefused):
    """Slurm does not take the job, now or later; the message is its own, and so are the lines that it was put in."""

    def __init__(self, message: str, lines: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.lines = lines or (message,)


@frozen
class Script:
    """A job for `sbatch`: the arguments, and the script."""

    arguments: tuple[str, ...]
    text: str


class Transport(Protocol):
    """A way to a cluster. Every method has its time-out, and raises `BackendUnavailable` for "try later"."""

    def missing(self) -> str | None:
        """What of it is not installed here; None when all is there."""

    async def submit(self, script: Script) -> int:
        """Hand a job over; its number.

        Raises `BackendFull` where the user has as many jobs as allowed, `SbatchRefused` for one that is never taken.
        """

    async def rows(self) -> list[Row]:
        """All jobs of ours that Slurm remembers, ended and hidden ones too: one question, whatever their number."""

    async def accounted(self, names: Sequence[str], since: str) -> list[Row]:
        """What accounting knows of jobs by their names; empty where there is no accounting."""

    async def nodes(self) -> list[Nodes]:
        """What the cluster has."""

    async def signal(self, jobs: Sequence[int], named: str, signal: str) -> None:
        """Send a signal to the script of running jobs alone; calm about those that are gone or only wait.

        Jobs with another name than `named` are left alone: their numbers were given anew.
        """

    async def cancel(self, jobs: Sequence[int], named: str) -> None:
        """End jobs: SIGTERM to all of each, then SIGKILL; calm about those that are gone; `named` as for `signal`."""

    def close(self) -> None:
        """End what is under way."""


class CommandLine:
    """`sbatch`, `squeue`, `sacct`, `scancel`, `sinfo`: at most `at_once` of them, `seconds` for each."""

    def __init__(self, seconds: float, at_once: int, environ: Mapping[str, str] | None = None) -> None:
        self._seconds = seconds
        self._hands = Hands("slurm", at_once, 1)
        self._closed = False
        self._environ = environ
        self._running: set[subprocess.Popen[bytes]] = set()
        self._there: str | None = None
        self._there_until = 0.0
        self.has_accounting = True

    def missing(self) -> str | None:
        """Looked for along `PATH`; what was there is not looked for again at once."""
        now, path = time.monotonic(), os.environ.get("PATH")
        if self._there == path and now < self._there_until:
            return None
        absent = [name for name in ("sbatch", "squeue", "scancel", "sinfo") if shutil.which(name) is None]
        self._there, self._there_until = path, 0.0 if absent else now + _THERE_SECONDS
        return ", ".join(absent) or None

    async def submit(self, script: Script) -> int:
        said = await self._call("sbatch", "--parsable", *script.arguments, text=script.text)
        number = said.strip().splitlines()[-1].partition(";")[0] if said.strip() else ""
        if not number.isdigit():
            raise BackendUnavailable(f"sbatch did not say which job it made: {said[:200]!r}")
        return int(number)

    async def rows(self) -> list[Row]:
        return queued(await self._ask("squeue", "--me", "-a", "-h", "-t", "all", "-O", QUEUE_FIELDS))

    async def accounted(self, names: Sequence[str], since: str) -> list[Row]:
        if not self.has_accounting or shutil.which("sacct") is None:
            return []
        asked = ("-X", "-n", "-P", "-S", since, "--name", ",".join(names), "-o", ACCOUNT_FIELDS)
        try:
            return accounted(await self._ask("sacct", *asked))
        except BackendUnavailable as e:
            if "accounting storage is disabled" not in e.message.lower():
                raise
            self.has_accounting = False
            return []

    async def nodes(self) -> list[Nodes]:
        return nodes(await self._ask("sinfo", "-a", "-h", "-e", "-o", NODE_FIELDS))

    async def signal(self, jobs: Sequence[int], named: str, signal: str) -> None:
        await self._end(f"--name={named}", f"--signal={signal}", "--batch", *map(str, jobs))

    async def cancel(self, jobs: Sequence[int], named: str) -> None:
        await self._end(f"--name={named}", *map(str, jobs))

    def close(self) -> None:
        self._closed = True
        self._hands.close()
        for process in list(self._running):
            _kill(process)

    async def _ask(self, *command: str) -> str:
        """A question: whatever goes wrong with it says nothing about jobs."""
        try:
            return await self._call(*command)
        except SbatchRefused as e:
            raise BackendUnavailable(f"{command[0]}: {e}") from e

    async def _end(self, *arguments: str) -> None:
        try:
            await self._call("scancel", *arguments)
        except SbatchRefused as e:
            if refused := [line for line in e.lines if not _GONE.search(line)]:  # a line for each job
                raise BackendUnavailable(f"scancel: {' '.join(refused)[:_SAID]}") from e

    async def _call(self, *command: str, text: str = "") -> str:
        """What the command prints. Raises `SbatchRefused` with its complaint, `BackendUnavailable` for "later"."""
        code, out, complaint = await self._hands.do(self._run, command, text.encode())
        if code == 0:
            return out
        bare = re.sub(rf"{command[0]}: (error|fatal): ", "", complaint)
        lines = list(dict.fromkeys(line.strip() for line in bare.splitlines() if line.strip()))
        said = " ".join(lines)[:_SAID] or f"left with {code} without a word"
        if _FULL.search(bare) or (_POLICY in said and len(lines) == 1):
            raise BackendFull(f"Slurm takes no more jobs now: {said}")
        if _LATER.search(bare.rpartition(_FAILED)[2]):
            error = NotReached if _UNREACHED.search(said) else BackendUnavailable
            raise error(f"Slurm does not answer {command[0]}: {said}")
        raise SbatchRefused(said, lines)

    def _run(self, command: Sequence[str], text: bytes) -> tuple[int, str, str]:
        if self._closed:
            raise BackendUnavailable("the service stops")
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=_environment(os.environ if self._environ is None else self._environ),
                umask=_MASK,
                start_new_session=True,
            )
        except OSError as e:
            raise NotReached(f"{command[0]} can't be started: {e.strerror}; is Slurm installed here?") from e
        self._running.add(process)
        try:
            out, complaint = process.communicate(text, timeout=self._seconds)
        except subprocess.TimeoutExpired as e:
            _kill(process)
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=_KILLED_SECONDS)
            limit = f"{self._seconds:g} s (TRAINYARD_SLURM_CALL_SECONDS)"
            raise BackendUnavailable(f"Slurm does not answer {command[0]}: nothing within {limit}") from e
        finally:
            self._running.discard(process)
        return process.returncode, out.decode(errors="replace"), complaint.decode(errors="replace")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """All of it: a site's own script in a command's place may have begun the command itself."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Ours, without what would change the commands' meaning, and without settings of the service."""
    return {k: v for k, v in environ.items() if not _OURS.fullmatch(k)} | {"LC_ALL": "C"}
