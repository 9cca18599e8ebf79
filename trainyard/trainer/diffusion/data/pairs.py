"""Pictures and the pictures to edit that go with them: paired by file name, the suffix apart."""

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from attrs import field, frozen

from trainyard.trainer.diffusion.data.frames import like
from trainyard.trainer.diffusion.data.picture import Frame, Picture
from trainyard.trainer.tally import Tally

if TYPE_CHECKING:
    from trainyard.trainer.diffusion.data.image_set import ImageSet
    from trainyard.trainer.diffusion.data.known import Facts

#: Aspect ratios that differ by more don't show the same.
_ALIKE = 0.02


class NoPair(ValueError):
    """Why a picture has no partner."""


def stem(name: str) -> str:
    """What partners share: the path below the set's folder, without suffix."""
    return str(PurePosixPath(name).with_suffix(""))


@frozen
class Partners:
    """The files of a set of pictures to edit, by what they share with the pictures that go with them."""

    source: "ImageSet"
    files: Mapping[str, Sequence[tuple[str, "Facts"]]]
    _asked: set[str] = field(factory=set, init=False)

    def alone(self) -> Tally:
        """The files that no picture asked for."""
        found = Tally()
        for shared in sorted(self.files.keys() - self._asked):
            found.add(self.files[shared][0][0])
        return found

    def of(self, name: str, frame: Frame, seed: int) -> Picture:
        """The partner of a picture. Raises `NoPair`."""
        found = self.files.get(stem(name), ())
        self._asked.add(stem(name))
        if len(found) != 1:
            several = " and ".join(other for other, _ in found)
            if several:
                raise NoPair(f"has several partners in {self.source.id!r}: {several}; one must be left")
            raise NoPair(f"has no partner in {self.source.id!r}: no picture {stem(name)}.* in {self.source.folder}")
        partner, facts = found[0]
        if facts.problem:
            raise NoPair(f"has a partner in {self.source.id!r} that can't be used: {partner} {facts.problem}")
        return Picture(
            self.source.id, self.source.folder / partner, facts.sha256, self._frame(partner, facts, frame, seed), ()
        )

    def _frame(self, partner: str, facts: "Facts", frame: Frame, seed: int) -> Frame:
        if self.source.reference_type == "reference_strict":
            width, height = frame.original
            if abs(facts.width / facts.height * height / width - 1) > _ALIKE:
                raise NoPair(
                    f"has another shape than its partner in {self.source.id!r}: {width} × {height} and {facts.width} × "
                    f"{facts.height} ({partner}); reference_strict needs the same, conditioning_type reference_loose "
                    "frames each by itself"
                )
            return like(frame, facts.size)
        if fault := self.source.framing.fault(facts.size):
            raise NoPair(f"has a partner in {self.source.id!r} that is left out: {partner} is {fault}")
        return self.source.framing.frame(facts.size, f"{seed} {self.source.id} {facts.sha256}")
