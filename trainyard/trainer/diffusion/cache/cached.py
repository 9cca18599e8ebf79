"""What latents and texts have in common: where each lies, what is lacking, reading, and making what can't be read."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from attrs import define, field

from trainyard.trainer.diffusion.cache.fill import Made, Wanted, Work, fill
from trainyard.trainer.diffusion.cache.placing import Place, When
from trainyard.trainer.diffusion.cache.shelf import Damaged, Shelf, Tensors
from trainyard.trainer.failures import DataError

T = TypeVar("T")

_LOOKED_AT_ONCE = 1_000
_LOOKING_THREADS = 8


@define(eq=False)
class Cached(Generic[T]):
    """Tensors of things of one kind under one key, in one folder or in several."""

    kind: ClassVar[str]
    what: ClassVar[str]

    folder: Path
    key: str
    #: Folders of datasets that have one of their own, by the dataset's id, and when each is filled.
    places: Mapping[str, Place] = {}
    #: What to do where a thing is lacking: it was damaged, is made on demand, or is never kept.
    encoder: Any = None
    #: What the loop should say; written by whatever thread reads.
    remarks: deque[str] = field(factory=deque, init=False)

    def place(self, dataset: str | None) -> Place:
        """Where the things of a dataset lie."""
        return self.places.get(dataset or "", Place(self.folder))

    def shelf(self, dataset: str | None) -> Shelf:
        """The files of a dataset's things."""
        return Shelf(self.place(dataset).folder, self.kind, self.key)

    def name(self, thing: T) -> str:
        """The digest of everything that a thing's tensors depend on but the key."""
        raise TypeError(f"{type(self).__name__} has no names")

    def load(self, thing: T) -> Any:
        """A thing, read; called in several threads."""
        return thing

    def encode(self, encoder: Any, loaded: Sequence[Any]) -> Sequence[Made]:
        """What was loaded, encoded in one batch."""
        raise TypeError(f"{type(self).__name__} has no encoder")

    def lacking(self, wanted: Iterable[Wanted[T]], check: Callable[[], None]) -> list[Wanted[T]]:
        """Those without a whole file, each once. All that are there count as used from now on."""
        unique = list({(w.shelf, w.name): w for w in wanted}.values())
        found: list[Wanted[T]] = []
        with ThreadPoolExecutor(_LOOKING_THREADS, "cache") as pool:
            for start in range(0, len(unique), _LOOKED_AT_ONCE):
                check()
                some = unique[start : start + _LOOKED_AT_ONCE]
                notes = pool.map(lambda w: w.shelf.notes(w.name), some)
                found += [w for w, noted in zip(some, notes, strict=True) if noted is None]
        return found

    def make(
        self,
        batches: Sequence[Sequence[Wanted[T]]],
        encoder: Any,
        check: Callable[[], None],
        say: Callable[..., None],
        threads: int = 1,
    ) -> int:
        """Make and keep what is in the batches; how many were made by this process."""

        def encode(loaded: Sequence[Any]) -> Sequence[Made]:
            return self.encode(encoder, loaded)

        return fill(batches, Work(what=self.what, load=self.load, encode=encode, check=check, say=say, threads=threads))

    def tensors(self, wanted: Sequence[Wanted[T]], when: Sequence[When]) -> list[Tensors]:
        """Of each thing, in their order; what is not there is made first, in one batch."""
        found: dict[tuple[Shelf, str], Tensors] = {}
        asked = _unique(zip(wanted, when, strict=True))
        lacking = [w for w, w_when in asked if w_when is not When.NEVER and not self._read(w, w_when, found)]
        if lacking:
            self.make([lacking], self._encoder(lacking), lambda: None, lambda *_, **__: None)
            found |= {(w.shelf, w.name): w.shelf.read(w.name) for w in lacking}
        unkept = [w for w, w_when in asked if w_when is When.NEVER]
        if unkept:
            made = self.encode(self._encoder(unkept), [self.load(w.thing) for w in unkept])
            found |= {(w.shelf, w.name): m.tensors for w, m in zip(unkept, made, strict=True)}
        return [found[w.shelf, w.name] for w in wanted]

    def _read(self, w: Wanted[T], when: When, found: dict[tuple[Shelf, str], Tensors]) -> bool:
        try:
            found[w.shelf, w.name] = w.shelf.read(w.name)
        except FileNotFoundError:
            if when is When.AHEAD:
                self.remarks.append(f"{w.shelf.path(w.name)} is not there any more: it is made anew")
            return False
        except Damaged as e:
            self.remarks.append(f"{e}: it is made anew")
            w.shelf.remove(w.name)
            return False
        return True

    def _encoder(self, lacking: Sequence[Wanted[T]]) -> Any:
        if self.encoder is None:
            raise DataError(
                f"{lacking[0].shelf.path(lacking[0].name)} is not there any more, or was damaged; the job, started "
                "again, makes it anew"
            )
        return self.encoder


def _unique(wanted: Iterable[tuple[Wanted[T], When]]) -> list[tuple[Wanted[T], When]]:
    return list({(w.shelf, w.name): (w, when) for w, when in wanted}.values())


def rotated(batches: Sequence[T], rank: int, size: int) -> list[T]:
    """Every process begins at another place, so that each fills its share and then helps the others."""
    start = len(batches) * rank // size
    return [*batches[start:], *batches[:start]]
