"""What an epoch takes of each bucket of each set, and in which order the pictures of a bucket come."""

from collections import defaultdict
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field

from trainyard.trainer.diffusion.data.chance import whole
from trainyard.trainer.diffusion.data.image_set import ImageSet
from trainyard.trainer.diffusion.data.pruning import bucket

if TYPE_CHECKING:
    from schemas.diffusion import Options
    from trainyard.trainer.diffusion.data.gallery import Gallery

_PASSES_KEPT = 3


@define(eq=False)
class Pool:
    """The pictures of one bucket of one set: an endless row of passes, each of all of them in an order of its own.

    Every epoch takes the next `count` of them, so that where it takes a part, the next goes on with the rest.
    """

    set: ImageSet
    #: Indices into the gallery's pictures.
    members: np.ndarray
    count: int
    seed: str
    _orders: dict[int, np.ndarray] = field(factory=dict, init=False)

    @property
    def batches(self) -> int:
        """Micro batches of an epoch; the last may be smaller."""
        return ceil(self.count / self.set.batch_size)

    def batch(self, epoch: int, number: int) -> list[int]:
        """The pictures of one of an epoch's micro batches, as indices into the gallery's."""
        size = self.set.batch_size
        first = epoch * self.count + number * size
        return [self._at(first + i) for i in range(min(size, self.count - number * size))]

    def _at(self, position: int) -> int:
        number, index = divmod(position, len(self.members))
        if number not in self._orders:
            while len(self._orders) >= _PASSES_KEPT:
                self._orders.pop(next(iter(self._orders)))
            self._orders[number] = generator(f"{self.seed} {number}").permutation(self.members)
        return int(self._orders[number][index])


def pools(gallery: "Gallery", options: "Options", seed: int) -> list[Pool]:
    """The pools of all sets.

    With `data_backend_sampling` `auto-weighting` an epoch takes of a set its pictures, `1 + repeats` times, times
    `probability`; with `uniform` as many in all, but of each set in proportion to `probability` alone.
    """
    whole = [len(part) * (1 + part.set.repeats) for part in gallery.parts]
    shares = [taken * part.set.probability for taken, part in zip(whole, gallery.parts, strict=True)]
    if options.data_backend_sampling == "uniform":
        weights = [part.set.probability for part in gallery.parts]
        shares = [sum(whole) * weight / sum(weights) for weight in weights]
    found = []
    for part, share in zip(gallery.parts, shares, strict=True):
        members = defaultdict(list)
        for index in range(part.start, part.stop):
            members[bucket(gallery.pictures[index])].append(index)
        for key, indices in members.items():
            count = max(1, round(share * len(indices) / len(part)))
            found.append(Pool(part.set, np.array(indices, np.int64), count, f"{seed} {part.set.id} {key}"))
    return found


def generator(seed: str) -> np.random.Generator:
    """A generator that depends on a text alone."""
    return np.random.default_rng(whole(seed))
