"""What the end of a run means for its job (contract trainer.md, 4): pure."""

from common.backend import RunEnded
from common.event import Body, JobCancelled, JobFailed, JobPaused, JobSucceeded
from common.exits import EXPLANATIONS, REASONS, Exit
from common.job import Reason, Wish

_GAVE_WAY = (Exit.STOPPED_SAVED, Exit.STOPPED_UNSAVED)
#: How a run leaves that is to pause; fenced: it was shut out before it had claimed its attempt.
_PAUSED = (*_GAVE_WAY, Exit.FENCED)
#: What is tried again where `max_retries` allows: no fault of the job's own.
RETRIED = frozenset({Reason.PREEMPTED, Reason.NODE_FAILURE, Reason.LOST, Reason.STALLED, Reason.KILLED})


def outcome(ended: RunEnded, wanted: Wish, engine: str, saved: int | None = None, reached: int | None = None) -> Body:
    """The end that is told; `saved` is the step of the newest checkpoint, `reached` the last that is known of the job.

    A run that finished before it saw the wish has succeeded. One that was lost before it could answer a wish to pause
    is paused as well: at its newest checkpoint, or at none.
    """
    own = engine == "command"
    if did_all(ended):
        return JobSucceeded(step=ended.step, final_uri=ended.final_uri)
    if wanted is Wish.CANCEL:
        return JobCancelled(step=_left_at(ended, reached))
    reason = ended.reason or _reason(ended, engine)
    left = ended.code in _PAUSED or ended.signal is not None or reason in RETRIED
    if wanted is Wish.PAUSE and (left or (own and ended.code)):
        return JobPaused(step=_held_at(ended, own, saved))
    if ended.reason is Reason.CANCELLED_OUTSIDE:
        return JobCancelled(reason=ended.reason, step=_left_at(ended, reached))
    ours = None if own or ended.code is None else EXPLANATIONS.get(ended.code)
    explanation = ended.explanation or ours
    return JobFailed(
        reason=reason,
        exit_code=ended.code,
        signal=ended.signal,
        log_tail=ended.log_tail,
        explanation=explanation if reason is not Reason.TIME_LIMIT else "past resources.max_duration_minutes",
    )


def did_all(ended: RunEnded) -> bool:
    """Whether the run did all that was asked, whatever is wished by now."""
    return ended.code == Exit.DONE and ended.reason is None and ended.signal is None


def _left_at(ended: RunEnded, reached: int | None) -> int | None:
    """The step of a cancelled job: a run that came to none has not taken away what those before it reached."""
    return ended.step if ended.step or reached is None else reached


def _held_at(ended: RunEnded, own: bool, saved: int | None) -> int | None:
    """The step of a paused job: the one it goes on from, which a run of ours knows where it left after a checkpoint."""
    knows = ended.code == Exit.STOPPED_SAVED or (own and ended.code is not None)
    return ended.step if knows and ended.step is not None else saved


def _reason(ended: RunEnded, engine: str) -> Reason:
    if ended.signal is not None:
        return Reason.KILLED
    if ended.code is None:
        return Reason.LOST
    if engine == "command":
        return Reason.EXIT_CODE
    if ended.code in _GAVE_WAY:
        return Reason.KILLED
    return REASONS.get(ended.code, Reason.EXIT_CODE)
