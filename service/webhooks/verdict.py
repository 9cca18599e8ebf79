"""What follows from a try: delivered, dead, or tried again, and when."""

import random
from datetime import UTC
from email.utils import parsedate_to_datetime

from common.clock import stamp
from common.settings import Settings
from service.store.base import Attempted, Delivery
from service.webhooks.sender import Answer

LONGEST_WAIT = 3600.0
_JITTER = 0.1
_chance = random.Random()
_GONE = 410
_WORTH_ANOTHER_TRY = frozenset({408, 429})
_WITH_RETRY_AFTER = frozenset({429, 503})


def judge(delivery: Delivery, answer: Answer, began: float, now: float, settings: Settings) -> Attempted:
    """The try as it is recorded. `began` and `now` are wall times; pure but for the jitter."""
    status, error = answer.status, answer.error
    if status is not None and 200 <= status < 300:
        return _record("delivered", answer, began, now)
    if status == _GONE:
        return _record("dead", answer, began, now, "answered 410: the hook is switched off", switch_off=True)
    if answer.final:
        return _record("dead", answer, began, now)
    if status is not None and status < 500 and status not in _WORTH_ANOTHER_TRY:
        kind = "a redirect, which is not followed" if 300 <= status < 400 else "final"
        return _record("dead", answer, began, now, f"answered {status}: {kind}")
    error = error or f"answered {status}"
    until = delivery.created + settings.webhook_give_up_seconds
    if now >= until:
        return _record("dead", answer, began, now, f"{error}; given up after {(now - delivery.created) / 3600:.1f} h")
    wait = back_off(delivery.tries, settings.webhook_first_retry_seconds)
    if status in _WITH_RETRY_AFTER and answer.retry_after is not None:
        wait = max(wait, retry_after(answer.retry_after, now))
    return _record("pending", answer, began, now, error, next_at=min(now + wait, until))


def back_off(tries: int, first: float) -> float:
    """Seconds until the next try after `tries` earlier ones and this: doubling to an hour, with jitter."""
    wait: float = min(first * 2.0 ** min(tries, 60), LONGEST_WAIT)
    return wait * _chance.uniform(1 - _JITTER, 1 + _JITTER)


def retry_after(text: str, now: float) -> float:
    """The seconds of a `Retry-After`, which may be a number or an HTTP date; 0 for anything else, an hour at most."""
    if text.strip().isdecimal():
        return min(float(text), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return min(max(seconds, 0.0), LONGEST_WAIT)


def _record(
    state: str,
    answer: Answer,
    began: float,
    now: float,
    error: str | None = None,
    *,
    next_at: float = 0.0,
    switch_off: bool = False,
) -> Attempted:
    return Attempted(
        at=stamp(began),
        seconds=max(now - began, 0.0),
        state=state,
        status=answer.status,
        error=error or answer.error,
        next_at=next_at,
        switch_off=switch_off,
    )
