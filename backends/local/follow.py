"""What is to be seen of one run on this machine, look by look; each look reads files and belongs into a thread."""

from collections.abc import Callable

from attrs import define

from backends.local import client
from backends.runs.reader import Reader, Seen, end_of
from backends.runs.run import Run, claimed
from common.backend import Cursor, Handle, RunEnded
from common.clock import Clock
from common.folder import JobFolder, Pair
from common.settings import Settings

_LONGEST_GRACE = 5.0
_NO_CLAIM = "no run claimed the attempt, and none is on its way"
_NO_GUARD = "the run's guard is gone and left no outcome"


@define
class Follower:
    """Follows a run from its claim to its end, wherever an earlier one left off."""

    folder: JobFolder
    handle: Handle
    cursor: Cursor | None
    settings: Settings
    clock: Clock
    run: Run | None = None
    reader: Reader | None = None
    lost: str | None = None
    _gone_since: float | None = None
    _next_probe: float = 0.0

    def claimed(self) -> Run | None:
        """The run that claimed the attempt, as soon as there is one; sets `lost` when none will come."""
        self.run = self.run or claimed(self.folder, self.handle.uid, self.handle.attempt)
        if self.run is None and self._missing(self._about_to_claim):
            client.end(Run(self.folder, self.handle.uid, Pair(self.handle.attempt)), self._grace)
            self.run = claimed(self.folder, self.handle.uid, self.handle.attempt)
            self.lost = None if self.run else _NO_CLAIM
        if self.run is not None and self.reader is None:
            self.reader = Reader.of(self.run, self.cursor)
            self._gone_since = None
        return self.run

    def look(self) -> Seen:
        """Read on. The end is looked for first, so that all lines that came before it are read."""
        assert self.run is not None
        assert self.reader is not None
        over = self.lost is not None or self.run.ended()
        seen = self.reader.read(over=over)
        if not over and self._missing(self._has_guard) and not self.run.ended():
            count = client.end(self.run, self._grace)
            self.lost = f"{_NO_GUARD}; {count} of its processes were ended" if count else _NO_GUARD
            return Seen(seen.lines, more=True)
        return seen

    def end(self) -> RunEnded:
        """How the run ended, read from its files."""
        if self.reader is not None:
            self.reader.passed_over(self.handle.job_id)
        run = self.run or Run(self.folder, self.handle.uid, Pair(self.handle.attempt))
        return end_of(run, self.lost or _NO_GUARD)

    @property
    def _grace(self) -> float:
        return min(self.settings.grace_seconds, _LONGEST_GRACE)

    def _about_to_claim(self) -> bool:
        return self.folder.path.is_dir() and client.on_its_way(self.folder.path, self.handle.attempt)

    def _has_guard(self) -> bool:
        assert self.run is not None
        return client.alive(self.run)

    def _missing(self, present: Callable[[], bool]) -> bool:
        """Whether something has been away for `lost_seconds`; looked at only now and then."""
        now = self.clock.monotonic()
        if now < self._next_probe:
            return False
        self._next_probe = now + min(1.0, self.settings.lost_seconds / 4)
        if present():
            self._gone_since = None
            return False
        self._gone_since = now if self._gone_since is None else self._gone_since
        return now - self._gone_since >= self.settings.lost_seconds
