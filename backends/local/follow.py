"""What is to be seen of one run, look by look; each look reads files and belongs into a thread."""

from collections.abc import Callable

import structlog
from attrs import define, field, frozen

from backends.local import client
from backends.local.client import Run
from backends.local.events import LastWords, last_words
from backends.local.logtail import log_tail
from common.backend import Cursor, Handle, RunEnded
from common.clock import Clock
from common.event_file import EventFile, Line
from common.exits import Exit
from common.folder import JobFolder, Pair
from common.job import Reason
from common.settings import Settings

log = structlog.get_logger(__name__)

_LONGEST_GRACE = 5.0
_NO_CLAIM = "no run claimed the attempt, and none is on its way"
_NEVER_RAN = (126, 127)
_NEVER_RAN_LINE = "── guard: can't start "
_NO_GUARD = "the run's guard is gone and left no outcome"


@frozen
class Seen:
    """New lines; whether to look again at once; whether that was all of a run that is over."""

    lines: list[Line] = field(factory=list)
    more: bool = False
    over: bool = False


@define
class Follower:
    """Follows a run from its claim to its end, wherever an earlier one left off."""

    folder: JobFolder
    handle: Handle
    cursor: Cursor | None
    settings: Settings
    clock: Clock
    run: Run | None = None
    events: EventFile | None = None
    lost: str | None = None
    _gone_since: float | None = None
    _next_probe: float = 0.0

    def claimed(self) -> Run | None:
        """The run that claimed the attempt, as soon as there is one; sets `lost` when none will come."""
        self.run = self.run or client.claimed(self.folder, self.handle.uid, self.handle.attempt)
        if self.run is None and self._missing(self._about_to_claim):
            client.end(Run(self.folder, self.handle.uid, Pair(self.handle.attempt)), self._grace)
            self.run = client.claimed(self.folder, self.handle.uid, self.handle.attempt)
            self.lost = None if self.run else _NO_CLAIM
        if self.run is not None and self.events is None:
            known = self.cursor if self.cursor is not None and self.cursor.file == source(self.run.pair) else None
            self.events = EventFile(self.run.events, known.n if known else 0, known.offset if known else 0)
            self._gone_since = None
        return self.run

    def look(self) -> Seen:
        """Read on. The end is looked for first, so that all lines that came before it are read."""
        assert self.run is not None
        assert self.events is not None
        over = self.lost is not None or self.run.ended()
        lines, more = self.events.read()
        if not over and self._missing(self._has_guard) and not self.run.ended():
            count = client.end(self.run, self._grace)
            self.lost = f"{_NO_GUARD}; {count} of its processes were ended" if count else _NO_GUARD
            return Seen(lines, more=True)
        return Seen(lines, more or over, over and not lines)

    def end(self) -> RunEnded:
        """How the run ended, read from its files."""
        run = self.run or Run(self.folder, self.handle.uid, Pair(self.handle.attempt))
        if self.events is not None and (size := self.events.unread()) > 0:
            place = {"file": str(self.events.path), "offset": self.events.offset, "bytes": size}
            log.warning("events that can't be read were passed over", job_id=self.handle.job_id, **place)
        outcome, words = run.outcome(), last_words(run.events)
        if outcome is None:
            return RunEnded(
                reason=Reason.LOST, step=words.step, log_tail=log_tail(run), explanation=self.lost or _NO_GUARD
            )
        code, number = outcome.get("code"), outcome.get("signal")
        done = code == Exit.DONE
        tail = None if done else log_tail(run)
        return RunEnded(
            code=code,
            signal=number,
            reason=_reason(outcome.get("reason")),
            step=words.step,
            final_uri=words.final_uri,
            log_tail=tail,
            explanation=None if done else _explanation(words, code) or _not_started(tail, code),
        )

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


def source(pair: Pair) -> str:
    """The name of a run's event file in cursors."""
    return f"attempts/{pair}/events.jsonl"


def _reason(word: object) -> Reason | None:
    return Reason(word) if isinstance(word, str) and word in Reason.__members__.values() else None


def _explanation(words: LastWords, code: object) -> str | None:
    return words.error if words.error is not None and words.exit_code == code else None


def _not_started(tail: str | None, code: object) -> str | None:
    """What the guard said of a program that it could not start."""
    lines = (tail or "").splitlines() if code in _NEVER_RAN else []
    found = [line for line in lines if line.startswith(_NEVER_RAN_LINE)]
    return found[-1].removeprefix("── guard: ") if found else None
