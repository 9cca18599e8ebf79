"""What is to be seen of one run under Slurm, look by look; each look reads files and belongs into a thread."""

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from attrs import define, evolve, field, frozen

from backends.runs.reader import Reader
from backends.runs.run import Run, read_record
from backends.slurm.ends import ended
from backends.slurm.query import Look, Missing
from backends.slurm.rows import Row, name_of
from backends.slurm.states import Stage, has_run, stage, waiting
from backends.slurm.stopping import was_cancelled
from common.backend import Cursor, Handle, RunEnded
from common.clock import Clock
from common.event_file import Line
from common.folder import JobFolder, Pair
from trainyard import guard

_RUNAWAY_SECONDS = 3600.0


@frozen(kw_only=True)
class Sight:
    """What a look showed: new lines; and of the rest, what there is."""

    lines: list[Line] = field(factory=list)
    #: Look again at once.
    more: bool = False
    #: The run claimed its attempt.
    claimed: bool = False
    #: A sentence on why it waits.
    detail: str | None = None
    #: Slurm began, or will begin, the run again.
    restarted: bool = False
    #: Slurm does not list its job any more: accounting is to be asked.
    forgotten: bool = False
    over: bool = False


@define
class Follower:
    """Follows one run, of one restart, from its submission to its end."""

    folder: JobFolder
    handle: Handle
    pair: Pair
    cursor: Cursor | None
    clock: Clock
    lost_seconds: float
    #: An older look than this knows nothing of it.
    began: float
    #: What accounting says of a job that Slurm has forgotten.
    remembered: Row | None = None
    reader: Reader | None = None
    row: Row | None = None
    missing: Missing = field(factory=Missing)
    _seen: int = 0
    _over_since: float | None = None
    #: Since when accounting alone has it.
    _alone_since: float | None = None
    #: Slurm began its script, so that there may be a claim.
    _ran: bool = False
    _detail: str | None = None

    @property
    def run(self) -> Run:
        return Run(self.folder, self.handle.uid, self.pair)

    @property
    def name(self) -> str:
        """Of its jobs in Slurm."""
        return name_of(self.handle.job_id, self.handle.uid, self.pair.attempt)

    def slurm_ids(self, look: Look) -> list[int]:
        """All jobs of Slurm's that are this attempt."""
        rows = (look.rows or {}).get((self.handle.uid, self.pair.attempt), ())
        own = [n for n in (_number(self.handle.data.get("slurm_id")), owner_of(self.run)) if n is not None]
        return sorted({*own, *(row.id for row in rows)})

    def look(self, look: Look) -> Sight:
        """Slurm's word is looked at first, so that all that the run said before its end is read."""
        claimed = self._claim()
        if look.number != self._seen:
            self._seen = look.number
            self._take(look)
        restart = self._restart()
        over = restart is None and self._is_over()
        forgotten = restart is None and not over and self._forgotten()
        found = Sight(claimed=claimed, detail=self._changed_detail(look))
        if self.reader is not None:
            seen = self.reader.read(over=over or forgotten or restart is not None)
            if seen.lines:
                return evolve(found, lines=seen.lines, more=seen.more)
        return evolve(found, restarted=restart is not None, forgotten=forgotten, over=over)

    def waits_as_before(self, look: Look) -> bool:
        """Whether Slurm's word alone tells that nothing has changed for a run that has not begun. Reads no file."""
        row = look.of(self.handle.uid, self.pair.attempt, None)
        return row is not None and row == self.row and stage(row.state) is Stage.WAITS

    def outlived(self) -> bool:
        """Whether a job that Slurm has forgotten is over although accounting has it alive: it may have missed the end.

        Slurm has the word for a while; the run's own outcome, and then time, say more.
        """
        now = self.clock.monotonic()
        self._alone_since = now if self._alone_since is None else self._alone_since
        if self.run.ended() or now - self._alone_since >= _RUNAWAY_SECONDS:
            return True
        self.missing = Missing()  # asked again once it has been missing for as long anew
        return False

    def end(self, row: Row | None) -> RunEnded:
        """How it ended; what a killed guard left on this machine is ended first."""
        claimed = self._claim()
        if self.reader is not None:
            self.reader.passed_over(self.handle.job_id)
        if claimed and not self.run.ended() and self._was_here():
            guard.end_run(self.run.name)
        return ended(self.run, claimed, row, was_cancelled(self.folder, self.pair))

    def _claim(self) -> bool:
        if self.reader is None and self.run.claim.is_dir():
            self.reader = Reader.of(self.run, self.cursor)
        return self.reader is not None

    def _take(self, look: Look) -> None:
        if look.rows is None or look.began < self.began:  # nothing is known, and nothing has changed
            return
        found = look.of(self.handle.uid, self.pair.attempt, owner_of(self.run))
        self.missing = self.missing.after(self.clock.monotonic(), listed=found is not None)
        if found is not None:
            self.row = found
            self._ran = self._ran or has_run(found.state)

    def _restart(self) -> int | None:
        """A larger restart that Slurm counts, once the run before it is over; or that has claimed already."""
        counted = self.row.restarts if self.row is not None and self.row.state != "COMPLETING" else 0
        claimed = max((pair.restart for pair in self.folder.restarts(self.pair.attempt)), default=0)
        return newest if (newest := max(counted, claimed)) > self.pair.restart else None

    def _is_over(self) -> bool:
        """Slurm says so; a claim and its `exit.json` are waited for a while, as a shared file system may be late."""
        if self.row is None or stage(self.row.state) is not Stage.OVER:
            self._over_since = None
            return False
        if not self._claim():
            look_afresh(self.run)
            self._claim()
        if self.run.ended() if self.reader is not None else self._never_began():
            return True
        now = self.clock.monotonic()
        self._over_since = now if self._over_since is None else self._over_since
        return now - self._over_since >= self.lost_seconds

    def _never_began(self) -> bool:
        """Surely: Slurm never gave it nodes, or we shut it out."""
        return not self._ran or was_cancelled(self.folder, self.pair)

    def _forgotten(self) -> bool:
        over = self.row is not None and stage(self.row.state) is Stage.OVER
        return not over and self.missing.is_gone(self.clock.monotonic(), self.lost_seconds)

    def _changed_detail(self, look: Look) -> str | None:
        detail = look.away
        if detail is None and self.row is not None and stage(self.row.state) is Stage.WAITS:
            detail = waiting(self.row.reason)
        elif detail is None and self.row is not None and self.row.state not in ("RUNNING", "COMPLETING"):
            detail = f"Slurm: {self.row.state}" if stage(self.row.state) is Stage.RUNS else None
        changed, self._detail = detail != self._detail, detail
        return (detail or "runs in Slurm") if changed and (detail or self._seen) else None

    def _was_here(self) -> bool:
        owner = read_record(self.run.claim / "owner.json") or {}
        return owner.get("host") == os.uname().nodename


def look_afresh(run: Run) -> None:
    """Have NFS ask its server for what the folders hold: opening one does (nfs(5), close-to-open)."""
    for folder in (run.claim.parent.parent, run.claim.parent):
        with suppress(OSError):
            next(folder.iterdir(), None)


def owner_of(run: Run) -> int | None:
    """The number of the Slurm job that claimed an attempt."""
    return _number((read_record(run.claim / "owner.json") or {}).get("slurm_job_id"))


def pair_of(handle: Handle) -> Pair:
    """The run that a handle means: Slurm counts restarts within the attempt that was submitted."""
    data: Mapping[str, Any] = handle.data
    return Pair(int(data["submitted"]), int(data["restart"]))


def _number(value: object) -> int | None:
    return int(value) if isinstance(value, int | str) and str(value).isdigit() else None
