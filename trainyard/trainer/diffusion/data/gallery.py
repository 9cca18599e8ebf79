"""All that a job is trained on, looked through once."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from attrs import frozen

from trainyard.trainer.diffusion.data.image_set import ImageSet
from trainyard.trainer.diffusion.data.picture import Picture
from trainyard.trainer.failures import DataError


class Together(Protocol):
    """What is asked of the processes of a run (`trainyard.trainer.processes.World`)."""

    def any(self, *flags: bool) -> tuple[bool, ...]: ...

    def share(self, thing: Any) -> Any: ...


@frozen(kw_only=True)
class Part:
    """The pictures of one set: `pictures[start:stop]` of the gallery's."""

    set: ImageSet
    start: int
    stop: int
    #: Of its files, names and content, references too.
    sha256: str
    #: Pictures that were left out, by reason.
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return self.stop - self.start

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "id": self.set.id,
            "folder": str(self.set.folder),
            "pictures": len(self),
            "repeats": self.set.repeats,
            "sha256": self.sha256,
            "left_out": dict(self.left_out),
        }


@frozen(kw_only=True)
class Gallery:
    """The pictures of all sets, one set after the other, in the order of the entries."""

    pictures: tuple[Picture, ...]
    parts: tuple[Part, ...]
    #: The sets that hold pictures to edit.
    conditioning: tuple[ImageSet, ...] = ()
    #: Every caption there is, each once, in the order of the pictures; "" too where captions are dropped out.
    captions: tuple[str, ...]
    #: What a person should know: what was left out and why.
    notes: tuple[str, ...] = ()

    @property
    def sets(self) -> tuple[ImageSet, ...]:
        """The sets that are trained on."""
        return tuple(part.set for part in self.parts)

    @property
    def references(self) -> tuple[Picture, ...]:
        """Every picture to edit that a picture has; one that several have stands here several times."""
        return tuple(reference for picture in self.pictures for reference in picture.references)

    def check_same(self, world: Together) -> None:
        """Raises `DataError` in every process where one of them looked through other data than the first.

        Every process calls it, so that none waits for one that ended.
        """
        own = self._digest()
        if world.any(world.share(own) != own)[0]:
            error = DataError(
                f"{self.parts[0].set.at.partition('[')[0]}: the processes of this run found different pictures or "
                "captions: every machine must see the same files, and they must not change while a run begins"
            )
            error.together = True
            raise error

    def _digest(self) -> str:
        """Of all that a step depends on, wherever the files lie."""
        found = hashlib.sha256()
        for part in self.parts:
            found.update(repr((part.set.id, len(part), part.set.repeats, part.sha256)).encode())
        for picture in self.pictures:
            references = [reference.key for reference in picture.references]
            found.update(repr((picture.dataset, picture.key, picture.captions, references)).encode())
        return found.hexdigest()

    def plain(self) -> Sequence[Mapping[str, Any]]:
        """What the manifest says of it."""
        return [part.plain() for part in self.parts]
