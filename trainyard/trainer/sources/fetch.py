"""`fetch`: whatever URI or path it is, a local path comes of it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from common.access import Auth
from common.objects import SCHEMES, ObjectError
from common.storage import local_path, scheme
from schemas.uri import mask_urls
from trainyard.trainer.failures import ConfigError, DataError, RunEnded, SourceRefused
from trainyard.trainer.sources import hub
from trainyard.trainer.sources.limits import Limits
from trainyard.trainer.sources.offer import Broken, Changed, Lost, Offer
from trainyard.trainer.sources.watched import Progress, watched

if TYPE_CHECKING:
    from trainyard.trainer.sources.cache import Cache

_LOOKS = 3
_LOOK_AGAIN = 6
_LOOK_AGAIN_IN_HASTE = 2
_FIRST_WAIT, _LAST_WAIT = 0.5, 10.0


def fetch(
    uri: str,
    auth: Auth,
    *,
    at: str,
    cache: Path,
    check: Callable[[], None],
    say: Callable[[str], None],
    missing: type[RunEnded] = DataError,
    limits: Limits = Limits(),
    plain: bool = False,
) -> Path:
    """The local path of what a URI names, downloaded where it is not here: a file, or a folder.

    `at` is the field that gave the URI, for messages; `missing` is raised where there is no such thing. Also raises
    `SourceRefused`, `DiskFull`, `ConfigError`, and what `check` raises: it is called several times a second. `plain`
    lets the URI be an `http://` one.
    """
    path = local_path(uri)
    if path is not None:
        return path
    kind, shown = scheme(uri), mask_urls(uri)
    if kind == "hf":
        place = hub.Place.of(uri)
        if place is None:
            raise ConfigError(f"{at}: {shown}: hf://[datasets/]owner/name[@revision][/path] would be right")
        return hub.fetch_place(place, auth.token, at, missing, check, say)
    if kind not in ("https", *SCHEMES) and not (plain and kind == "http"):
        raise ConfigError(f"{at}: {shown}: {kind}:// can't be read; a path, https, s3, gs, az or hf would be right")
    from trainyard.trainer.sources.cache import Cache

    offers = partial(_offered, kind, uri, auth, limits, at, missing)
    try:
        return watched(
            partial(_taken, offers, Cache(cache), _LOOK_AGAIN if limits.patient else _LOOK_AGAIN_IN_HASTE),
            shown,
            check,
            say,
        )
    except Lost as e:
        raise SourceRefused(f"{at}: {shown} can't be reached: {e}") from e
    except (Broken, Changed) as e:
        raise missing(f"{at}: {shown}: what came is not what the source promised: {e}") from e
    except ObjectError as e:
        raise SourceRefused(f"{at}: {e}") from e


def _offered(kind: str, uri: str, auth: Auth, limits: Limits, at: str, missing: type[RunEnded]) -> Offer:
    from trainyard.trainer.sources import http, objects  # jobs of local files begin sooner without

    return (http if kind in ("https", "http") else objects).offered(uri, auth, limits, at, missing)


def _taken(offers: Callable[[], Offer], cache: "Cache", tries: int, progress: Progress) -> Path:
    """Look at the source, then download; look again where it changed meanwhile."""
    for look in range(_LOOKS):
        offer = _looked_at(offers, tries, progress)
        try:
            return cache.take(offer, progress)
        except Changed as e:
            if look == _LOOKS - 1:
                raise
            progress.notes.append(f"{e}; it is fetched again")
    raise AssertionError("unreachable")


def _looked_at(offers: Callable[[], Offer], tries: int, progress: Progress) -> Offer:
    for tried in range(tries):
        try:
            return offers()
        except Lost:
            if tried == tries - 1:
                raise
            progress.wait(min(_FIRST_WAIT * 2**tried, _LAST_WAIT))
    raise AssertionError("unreachable")
