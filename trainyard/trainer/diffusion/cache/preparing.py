"""Everything that can be computed before the training: latents and embeddings, and then their makers are let go."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from attrs import frozen

from trainyard.trainer.diffusion.cache.encoders import Encoders, Vae
from trainyard.trainer.diffusion.cache.latents import Latents
from trainyard.trainer.diffusion.cache.loader import Drawing, Loader
from trainyard.trainer.diffusion.cache.placing import Place, When, places
from trainyard.trainer.diffusion.cache.texts import Prompt, Texts
from trainyard.trainer.diffusion.data.picture import Picture
from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.processes import World

if TYPE_CHECKING:
    from schemas.diffusion import Options
    from schemas.diffusion.dataloader import Entry

#: Steps that are read ahead of a loop on cached data that did not ask for more.
_AHEAD = 2
_NAMED_CHARACTERS = 80


class Surveyed(Protocol):
    """What the data was found to be (`data.Gallery`)."""

    @property
    def pictures(self) -> Sequence[Picture]: ...


@frozen
class Caches:
    """Filled caches."""

    latents: Latents
    texts: Texts
    family: Family
    #: Steps that a loader may be ahead of the loop.
    ahead: int

    def loader(
        self,
        epochs: Drawing,
        rank: int = 0,
        *,
        device: torch.device | None = None,
        say: Callable[..., None] = lambda *_, **__: None,
    ) -> Loader:
        """What brings the batches of a loop, one step after the other."""
        return Loader(epochs, self.latents, self.texts, self.family, rank, ahead=self.ahead, device=device, say=say)

    def close(self) -> None:
        """Let go of what makes tensors on demand."""
        for encoder in (self.latents.encoder, self.texts.encoder):
            if encoder is not None:
                encoder.close()


def prepare(
    family: Family,
    weights: Weights,
    options: "Options",
    entries: "Sequence[Entry]",
    gallery: Surveyed,
    world: World,
    *,
    folder: Path,
    check: Callable[[], None],
    say: Callable[..., None],
    prompts: Iterable[str] = (),
    loading: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Caches:
    """Fill both caches, every process a share; when it returns all of it is there, for all of them.

    `folder` is the service's cache, `prompts` are words of no dataset (the validation's). Text encoders and VAE are
    loaded where something is missing, one after the other, and are gone at the end. `check` is called between batches
    and may raise what ends the run; the loading of an encoder stands in `loading`. Raises `ConfigError`, `DataError`,
    `DiskFull`, `OutOfMemory`.
    """
    where = places(entries, options, folder)
    share: dict[str, Any] = {"rank": world.rank, "size": world.size, "check": check, "say": say}

    encoders = Encoders(family, weights, options, _device(where.texts, world))
    texts = Texts(where.texts[""].folder, encoders.key, where.texts, encoders)
    asked = _prompts(gallery.pictures, prompts)
    with Encoders(family, weights, options, world.device, loading) as filling:
        batch = where.texts[""].batch or options.text_encoder_batch_size
        began = time.monotonic()
        _tell(say, texts.fill(asked, filling, batch=batch, **share), "prompts", began)
    if world.first:
        _tell_cut(say, texts.cut(asked, check), len({prompt.text for prompt in asked}))

    vae = Vae(family, weights, options, _device(where.latents, world))
    latents = Latents(where.latents[""].folder, family.vae_key(weights, options), where.latents, vae)
    with Vae(family, weights, options, world.device, loading) as making:
        began = time.monotonic()
        made = latents.fill(
            gallery.pictures, making, batch=options.vae_batch_size, threads=options.max_workers, **share
        )
        _tell(say, made, "pictures", began)

    world.barrier()
    usual = _AHEAD if where.all_ahead else 0
    ahead = options.dataloader_prefetch_qlen if options.dataloader_prefetch else usual
    return Caches(latents, texts, family, ahead)


def _device(where: Mapping[str, Place], world: World) -> torch.device:
    """Where what is lacking later is made: what was damaged meanwhile leaves the training's device alone."""
    ahead = all(place.when is When.AHEAD for place in where.values())
    return torch.device("cpu") if ahead else world.device


def _prompts(pictures: Iterable[Picture], prompts: Iterable[str]) -> list[Prompt]:
    """Every caption of every dataset, the empty one too: a caption may be dropped."""
    found = {Prompt(prompt): None for prompt in ("", *prompts)}
    for picture in pictures:
        found[Prompt("", picture.dataset)] = None
        for caption in picture.captions:
            found[Prompt(caption, picture.dataset)] = None
    return list(found)


def _tell(say: Callable[..., None], made: int, what: str, began: float) -> None:
    if made:
        seconds = max(time.monotonic() - began, 1e-6)
        say(f"cached {made:,} {what} in {seconds:,.1f} s ({made / seconds:,.1f} a second)")


def _tell_cut(say: Callable[..., None], cut: Mapping[str, int], all_of_them: int) -> None:
    """Say how many prompts are longer than what the text encoder sees, and name the one that loses most."""
    if cut:
        prompt = max(cut, key=lambda text: cut[text])
        shown = prompt if len(prompt) <= _NAMED_CHARACTERS else f"{prompt[:_NAMED_CHARACTERS]}…"
        say(
            f"{len(cut):,} of {all_of_them:,} prompts are longer than the text encoder sees and are cut; the most, "
            f"{cut[prompt]:,} tokens, of {shown!r}",
            level="warning",
        )
