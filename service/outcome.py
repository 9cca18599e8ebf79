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


def outcome(ended: RunEnded, wanted: Wish, engine: str, saved: int | None = None) -> Body:
    """The end that is told; `saved` is the step of the newest checkpoint.

    A run that finished before it saw the wish has succeeded. One that was lost before it could answer a wish to pause
    is paused as well: at its newest checkpoint, or at none.
    """
    own = engine == "command"
    if ended.code == Exit.DONE and ended.reason is None and ended.signal is None:
        return JobSucceeded(step=ended.step, final_uri=ended.final_uri)
    if wanted is Wish.CANCEL:
        return JobCancelled(step=ended.step)
    reason = ended.reason or _reason(ended, engine)
    left = ended.code in _PAUSED or ended.signal is not None or reason in RETRIED
    if wanted is Wish.PAUSE and (left or (own and ended.code)):
        return JobPaused(step=saved if ended.code is None else ended.step)
    if ended.reason is Reason.CANCELLED_OUTSIDE:
        return JobCancelled(reason=ended.reason, step=ended.step)
    ours = None if own or ended.code is None else EXPLANATIONS.get(ended.code)
    explanation = ended.explanation or ours
    return JobFailed(
        reason=reason,
        exit_code=ended.code,
        signal=ended.signal,
        log_tail=ended.log_tail,
        explanation=explanation if reason is not Reason.TIME_LIMIT else "past resources.max_duration_minutes",
    )


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
