"""Latents of pictures, kept by what the picture is, how it is cut and which VAE made them."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import ClassVar

import numpy as np
import torch
from attrs import define

from trainyard.trainer.diffusion.cache.cached import Cached, rotated
from trainyard.trainer.diffusion.cache.encoders import Vae
from trainyard.trainer.diffusion.cache.fill import Made, Wanted
from trainyard.trainer.diffusion.cache.placing import When
from trainyard.trainer.diffusion.cache.shelf import digest
from trainyard.trainer.diffusion.data.images import pixels
from trainyard.trainer.diffusion.data.picture import Picture

_LATENTS = "latents"


@define(eq=False)
class Latents(Cached[Picture]):
    """Latents under one VAE's key."""

    kind: ClassVar[str] = _LATENTS
    what: ClassVar[str] = "pictures"

    def missing(self, pictures: Iterable[Picture], check: Callable[[], None] = lambda: None) -> list[Picture]:
        """Pictures, and pictures to edit that belong to them, whose latents are to be made before the training."""
        return [w.thing for w in self.lacking(self._ahead(pictures), check)]

    def fill(
        self,
        pictures: Iterable[Picture],
        vae: Vae,
        *,
        batch: int = 1,
        threads: int = 4,
        rank: int = 0,
        size: int = 1,
        check: Callable[[], None] = lambda: None,
        say: Callable[..., None] = lambda *_, **__: None,
    ) -> int:
        """Make what is missing, `batch` pictures of one size at once, read by `threads`; how many were made here.

        The VAE is loaded only where something is missing. Of `size` processes each begins elsewhere; when one is done,
        all is there. Raises `DataError` for a picture that changed since it was looked at, `DiskFull`, `OutOfMemory`.
        """
        missing = self.lacking(self._ahead(pictures), check)
        missing.sort(key=lambda w: (w.thing.frame.bucket, str(w.shelf.folder)))
        batches = [
            one[start : start + batch]
            for _, group in groupby(missing, key=lambda w: w.thing.frame.bucket)
            for one in [list(group)]
            for start in range(0, len(one), batch)
        ]
        return self.make(rotated(batches, rank, size), vae, check, say, threads)

    def read(self, pictures: Sequence[Picture]) -> torch.Tensor:
        """(b, c, h, w) of pictures of one size."""
        wanted = [self._wanted(picture) for picture in pictures]
        when = [self.place(picture.dataset).when for picture in pictures]
        return torch.stack([found[_LATENTS] for found in self.tensors(wanted, when)])

    def name(self, thing: Picture) -> str:
        return digest(json.dumps(thing.key))

    def load(self, thing: Picture) -> np.ndarray:
        return pixels(thing)

    def encode(self, encoder: Vae, loaded: Sequence[np.ndarray]) -> list[Made]:
        return [Made({_LATENTS: latents.clone()}) for latents in encoder.encode(loaded)]

    def _ahead(self, pictures: Iterable[Picture]) -> Iterator[Wanted[Picture]]:
        for picture in pictures:
            if self.place(picture.dataset).when is When.AHEAD:
                yield self._wanted(picture)
            yield from self._ahead(picture.references)

    def _wanted(self, picture: Picture) -> Wanted[Picture]:
        return Wanted(self.shelf(picture.dataset), self.name(picture), picture)
