"""What is to be read of one run, look by look: its new lines, and how it ended. Each look belongs into a thread."""

from typing import Any

import structlog
from attrs import define, field, frozen

from backends.runs.events import LastWords, last_words
from backends.runs.logtail import log_tail
from backends.runs.run import Run
from common.backend import Cursor, RunEnded
from common.event_file import EventFile, Line
from common.exits import Exit
from common.job import Reason

log = structlog.get_logger(__name__)

_NEVER_RAN = (126, 127)
_NEVER_RAN_LINE = "── guard: can't start "


@frozen
class Seen:
    """New lines; whether to look again at once; whether that was all of a run that is over."""

    lines: list[Line] = field(factory=list)
    more: bool = False
    over: bool = False


@define
class Reader:
    """Reads the lines of a claimed run, wherever an earlier reader left off."""

    run: Run
    events: EventFile

    @classmethod
    def of(cls, run: Run, cursor: Cursor | None) -> "Reader":
        known = cursor if cursor is not None and cursor.file == run.source else None
        return cls(run, EventFile(run.events, known.n if known else 0, known.offset if known else 0))

    def read(self, *, over: bool) -> Seen:
        """Read on. `over` was found out before, so that all lines that came before the end are read."""
        lines, more = self.events.read()
        return Seen(lines, more or over, over and not lines)

    def passed_over(self, job_id: str) -> None:
        """At the end: tell the operator of what can't be read."""
        if (size := self.events.unread()) > 0:
            place = {"file": str(self.events.path), "offset": self.events.offset, "bytes": size}
            log.warning("events that can't be read were passed over", job_id=job_id, **place)


def end_of(run: Run, otherwise: str) -> RunEnded:
    """How a run ended, read from its files; `otherwise` explains one that left no outcome."""
    outcome, words = run.outcome(), last_words(run.events)
    if outcome is None:
        return RunEnded(reason=Reason.LOST, step=words.step, log_tail=log_tail(run), explanation=otherwise)
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


def _reason(word: Any) -> Reason | None:
    return Reason(word) if isinstance(word, str) and word in Reason.__members__.values() else None


def _explanation(words: LastWords, code: object) -> str | None:
    return words.error if words.error is not None and words.exit_code == code else None


def _not_started(tail: str | None, code: object) -> str | None:
    """What the guard said of a program that it could not start."""
    lines = (tail or "").splitlines() if code in _NEVER_RAN else []
    found = [line for line in lines if line.startswith(_NEVER_RAN_LINE)]
    return found[-1].removeprefix("── guard: ") if found else None
