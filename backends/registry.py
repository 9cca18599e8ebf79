"""Backends by name: entry points of the group `trainyard.backends`, imported at first use."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Set
from importlib.metadata import EntryPoint, entry_points

import structlog
from attrs import define, field, frozen

from common.backend import CAPABILITIES, INTERFACE_VERSION, BackendContext, BaseTrainerBackend
from common.errors import BackendUnavailable, InvalidRequest, UnknownBackend
from schemas.engine_options import check_keys
from schemas.train_terms import NAME
from schemas.values import FieldError

log = structlog.get_logger(__name__)

GROUP = "trainyard.backends"
_CLOSE_SECONDS = 10.0


@frozen
class Broken:
    """A registered name that can't be used, and why."""

    name: str
    version: str | None
    reason: str


@define
class _Entry:
    points: list[EntryPoint] = field(factory=list)
    backend: BaseTrainerBackend | None = None
    broken: str | None = None
    unavailable: str | None = None


class Registry:
    """The installed backends. One that fails to import is listed with its reason and stops nothing.

    Two packages that claim one name make that name unusable; the reason names both.
    """

    def __init__(self, context: BackendContext, points: Callable[[], Iterable[EntryPoint]] | None = None) -> None:
        self._context = context
        self._entries: dict[str, _Entry] = defaultdict(_Entry)
        for point in points() if points else entry_points(group=GROUP):
            known = self._entries[point.name].points
            if _claim(point) not in map(_claim, known):
                known.append(point)

    def names(self) -> list[str]:
        return sorted(self._entries)

    def version(self, name: str) -> str | None:
        """The version of the package that has the name; None where several claim it."""
        dists = [point.dist for point in self._entries[name].points]
        return dists[0].version if len(dists) == 1 and dists[0] else None

    def get(self, name: str, path: str = "backend") -> BaseTrainerBackend:
        """The backend, imported now if need be. Raises `UnknownBackend`, or `InvalidRequest` when it is broken."""
        if name not in self._entries:
            message = f"must be one of {', '.join(self.names())}; got {name!r}"
            raise UnknownBackend([FieldError(path, message)], f"backend {name!r} is not registered: {message}")
        entry = self._entries[name]
        if entry.backend is None and entry.broken is None:
            entry.broken = self._load(name, entry)
            if entry.broken is not None:
                log.warning("a backend can't be used", backend=name, reason=entry.broken)
        if entry.backend is None:
            raise InvalidRequest([FieldError(path, f"backend {name!r} can't be used: {entry.broken}")])
        return entry.backend

    def _load(self, name: str, entry: _Entry) -> str | None:
        """Import the class and make the backend; what is wrong, or None."""
        if len(entry.points) > 1:
            claims = " and ".join(sorted(map(_claim, entry.points)))
            return f"{len(entry.points)} packages claim the name {name!r}: {claims}; uninstall all but one"
        point = entry.points[0]
        package = _package(point)
        try:
            cls = point.load()
        except ImportError as e:
            return f"{package}: {e}; {_remedy(name, point)}"
        except (Exception, SystemExit) as e:  # a plug-in may raise anything; it must not stop the service
            return f"{package} failed to import: {type(e).__name__}: {e}"
        if not (isinstance(cls, type) and issubclass(cls, BaseTrainerBackend)):
            return f"{package}: {point.value} is not a subclass of BaseTrainerBackend"
        if cls.interface_version != INTERFACE_VERSION:
            return f"{package} is written for interface {cls.interface_version}, this is {INTERFACE_VERSION}"
        if (own := getattr(cls, "name", None)) != name:
            return f"{package}: the class has the name {own!r}, and is registered as {name!r}; they must be the same"
        if not NAME.holds(name):
            return f"{package}: the name {name!r} must be {NAME.noun}, as a document's `backend` is"
        if wrong := _no_capabilities(cls.capabilities):
            return f"{package}: capabilities {wrong}"
        try:
            check_keys(cls.Options)
            entry.backend = cls(self._context)
        except Exception as e:  # as above
            return f"{package} failed to start: {type(e).__name__}: {e}"
        return None

    async def start(self, seconds: float) -> None:
        """Load all and start them side by side, each within `seconds`; an unavailable one stays, with the reason."""
        async with asyncio.TaskGroup() as group:
            for name in self.names():
                group.create_task(self._start(name, seconds))

    async def _start(self, name: str, seconds: float) -> None:
        entry = self._entries[name]
        try:
            backend = self.get(name)
            async with asyncio.timeout(seconds):
                await backend.start()
        except InvalidRequest:
            return
        except BackendUnavailable as e:
            entry.unavailable = e.message
        except TimeoutError:
            entry.unavailable = f"its start took more than {seconds:.0f} s"
            log.warning("a backend can't be used yet", backend=name, reason=entry.unavailable)
        except Exception as e:  # as above
            package = _package(entry.points[0])
            entry.backend, entry.broken = None, f"{package} failed to start: {type(e).__name__}: {e}"
            log.exception("a backend can't be used", backend=name, reason=entry.broken)

    async def started(self, name: str) -> None:
        """Start a backend once more whose start has failed; raises as that does, and what it raises is its reason."""
        entry = self._entries[name]
        if entry.unavailable is None or entry.backend is None:
            return
        try:
            await entry.backend.start()
        except BackendUnavailable as e:
            entry.unavailable = e.message
            raise
        entry.unavailable = None

    async def close(self) -> None:
        """Close every backend; one that fails or hangs keeps none of the others open."""
        for name, entry in self._entries.items():
            if entry.backend is None:
                continue
            try:
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await entry.backend.close()
            except Exception:  # as above
                log.exception("a backend can't be closed", backend=name)

    def loaded(self) -> Iterator[BaseTrainerBackend]:
        for name in self.names():
            backend = self._entries[name].backend
            if backend is not None:
                yield backend

    def broken(self) -> list[Broken]:
        return [
            Broken(name, self.version(name), entry.broken)
            for name, entry in sorted(self._entries.items())
            if entry.broken is not None
        ]

    def unavailable(self, name: str) -> str | None:
        """Why `start` failed, if it did."""
        return self._entries[name].unavailable


def _claim(point: EntryPoint) -> str:
    """Who claims a name; one package that is found twice claims it once."""
    return f"{point.dist.name if point.dist else 'an unknown package'} ({point.value})"


def _package(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value


def _no_capabilities(given: object) -> str | None:
    """What is wrong with a class's `capabilities`, or None."""
    if not isinstance(given, Set):
        return f"must be a set of words, got {given!r}"
    unknown = ", ".join(sorted(repr(word) for word in given - CAPABILITIES))
    return f"must be of {', '.join(sorted(CAPABILITIES))}; unknown: {unknown}" if unknown else None


def _remedy(name: str, point: EntryPoint) -> str:
    """What to do where a module is lacking; our own backends have an extra each."""
    if point.dist is not None and point.dist.name == "trainyard":
        return f"install what it needs, e.g. pip install 'trainyard[{name}]'"
    return "install what it needs, or uninstall it"
