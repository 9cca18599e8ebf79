"""How a job fetches, whatever it is that it fetches."""

from collections.abc import Callable
from pathlib import Path
from typing import NotRequired, TypedDict

from trainyard.trainer.run import Run
from trainyard.trainer.sources.limits import Limits


class How(TypedDict):
    """What is passed on to `fetch.fetch`."""

    #: Where downloads are kept for every job of this machine.
    cache: Path
    #: Called several times a second; what it raises ends the work.
    check: Callable[[], None]
    #: Told now and then how far it is.
    say: Callable[[str], None]
    limits: NotRequired[Limits]


def how_of(run: Run) -> How:
    """As a run fetches."""
    limits = Limits.of(run.spec.options)
    return How(cache=run.spec.cache, check=run.control.check, say=run.report.log, limits=limits)
