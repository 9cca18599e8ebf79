"""One round of pictures: every prompt in every size, each with its seed, told and shown while it is made."""

import contextlib
import itertools
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from attrs import evolve, field, frozen
from PIL import Image

from schemas.diffusion import Options
from trainyard.trainer.diffusion.data.gallery import Gallery
from trainyard.trainer.diffusion.data.images import pixels
from trainyard.trainer.diffusion.data.picture import Picture
from trainyard.trainer.diffusion.families.family import Embedding, Family, Wish
from trainyard.trainer.diffusion.validation.pictures import Files
from trainyard.trainer.diffusion.validation.plan import Plan, Prompt, preview_steps
from trainyard.trainer.diffusion.validation.previews import Colours, Previewer, Tiny
from trainyard.trainer.diffusion.validation.sampler import with_sampler
from trainyard.trainer.diffusion.validation.strength import strength
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.generators import Generators
from trainyard.trainer.run import Run

_SEEDS = 2**31
Averaged = Callable[[], AbstractContextManager[Any]]


@frozen(kw_only=True)
class Drawing:
    """What pictures are made with. `network` is a LyCORIS network over the denoiser."""

    plan: Plan
    run: Run
    device: torch.device
    family: Family
    weights: Weights
    options: Options
    gallery: Gallery
    embeddings: Mapping[str, Embedding]
    files: Files
    #: Called between two sampling steps.
    look: Callable[[], None] = lambda: None
    network: Any = None
    #: Inside of what it returns the denoiser holds its averaged weights.
    averaged: Averaged | None = None
    #: The VAE's stand-in for previews; none: it can't be had, and colours are fitted to the training pictures.
    decoder: Tiny | None = None
    #: What was made once: the VAE and the colours.
    _made: dict[str, Any] = field(factory=dict)

    def round(self, denoiser: torch.nn.Module, step: int, why: str) -> int:
        """Make all pictures and count them; the denoiser and every generator are as they were afterwards.

        `why` `benchmark` shows the base model. Raises `Stopped` between two sampling steps, `Fenced`, `DiskFull`.
        """
        generators = Generators.now()
        seed = secrets.randbelow(_SEEDS) if self.options.validation_randomize else self._seed
        count = 0
        try:
            with _at_rest(denoiser, self.network), self._vae() as vae, torch.no_grad():
                pipeline = self.family.pipeline(self.weights, denoiser, vae, self.options)
                with_sampler(pipeline, self.options.validation_noise_scheduler)
                previewer = self._previewer(vae) if self.options.validation_preview else None
                for mark, held in self._models(denoiser, why):
                    with held:
                        for shot in self._shots(step, why, mark, seed):
                            self._check()
                            self._take(shot, pipeline, previewer)
                            count += 1
        finally:
            self.files.clear()
            generators.restore()
        return count

    @property
    def _seed(self) -> int:
        asked = self.options.validation_seed
        return asked if asked is not None else self.options.seed or 0

    def _models(self, denoiser: torch.nn.Module, why: str) -> list[tuple[str, AbstractContextManager[Any]]]:
        """The models whose pictures are made, each with the mark of its files and what holds it in place."""
        if why == "benchmark":
            return [("", strength(denoiser, 0.0, self.network))]
        factor = self.options.validation_lycoris_strength
        trained = ("", strength(denoiser, factor, self.network))
        if self.averaged is None or self.options.ema_validation == "none":
            return [trained]
        mean = ("-ema", _both(self.averaged, strength(denoiser, factor, self.network)))
        return [mean] if self.options.ema_validation == "ema_only" else [trained, mean]

    def _shots(self, step: int, why: str, mark: str, seed: int) -> Iterator["_Shot"]:
        options = self.options
        device = str(self.device) if options.validation_seed_source == "gpu" else "cpu"
        numbers = range(options.num_validation_images)
        for prompt, size, n in itertools.product(self.plan.prompts, self.plan.sizes, numbers):
            wish = Wish(
                width=size[0],
                height=size[1],
                steps=options.validation_num_inference_steps,
                guidance=options.validation_guidance,
                seed=seed + n,
                seed_source=device,
                guidance_real=options.validation_guidance_real,
                guidance_rescale=options.validation_guidance_rescale,
            )
            name = f"{prompt.file}-{size[0]}x{size[1]}-{n + 1}{mark}"
            yield _Shot(step, why, prompt, wish, name, bool(mark), self._references(prompt, wish.seed))

    def _references(self, prompt: Prompt, seed: int) -> tuple[Picture, ...]:
        """The pictures to edit: all those of one picture of the training data, drawn by prompt and seed."""
        asked = self.options.validation_using_datasets
        if asked is False or not self.family.edits(self.options):
            return ()
        paired = [picture for picture in self.gallery.pictures if picture.references]
        draw = random.Random(f"{seed} {prompt.name}")
        if paired:
            return draw.choice(paired).references
        return (draw.choice(self.gallery.pictures),) if asked else ()

    def _take(self, shot: "_Shot", pipeline: Any, previewer: Previewer | None) -> None:
        began = time.perf_counter()
        shown = set(preview_steps(shot.wish.steps, self.options.validation_preview_steps))

        def each_step(number: int, latents: torch.Tensor) -> None:
            if previewer is not None and number in shown:
                self._tell_preview(shot, number, previewer.show(latents), pipeline)
            self._check()

        picture = self.family.sample(
            pipeline,
            self.embeddings[shot.prompt.text],
            self.embeddings[self.plan.negative],
            shot.wish,
            [Image.fromarray(pixels(reference)) for reference in shot.references],
            each_step,
        )
        told = self.files.write(picture, shot.step, shot.name)
        more = {"kind": "picture", "seconds": round(time.perf_counter() - began, 3)}
        self.run.report.event("validation", shot.plain() | told | more)

    def _check(self) -> None:
        self.look()
        self.run.control.check()

    def _tell_preview(self, shot: "_Shot", number: int, picture: Image.Image, pipeline: Any) -> None:
        told = self.files.write(picture, shot.step, f"previews/{shot.name}-{number}")
        timesteps = getattr(pipeline.scheduler, "timesteps", ())
        timestep = float(timesteps[number - 1]) if number <= len(timesteps) else None
        more = {"kind": "preview", "sampling_step": number, "timestep": timestep}
        self.run.report.event("validation", shot.plain() | told | more)

    @contextlib.contextmanager
    def _vae(self) -> Iterator[Any]:
        """The VAE on the device; between rounds it waits on the CPU."""
        if "vae" not in self._made:
            self._made["vae"] = self.family.vae(self.weights, self.options, self.device)
        vae = self._made["vae"].to(self.device)
        try:
            yield vae
        finally:
            vae.to("cpu")

    def _previewer(self, vae: Any) -> Previewer:
        if self.decoder is not None:
            return self.decoder
        if "colours" not in self._made:
            self._made["colours"] = Colours.fit(self.family, vae, self.gallery.pictures, self.device)
        found: Previewer = self._made["colours"]
        return found


@frozen
class _Shot:
    """One picture to make."""

    step: int
    why: str
    prompt: Prompt
    wish: Wish
    name: str
    ema: bool
    references: tuple[Picture, ...]

    def plain(self) -> dict[str, Any]:
        """What is told of it."""
        found: dict[str, Any] = {
            "step": self.step,
            "why": self.why,
            "name": self.prompt.name,
            "prompt": self.prompt.text,
            "seed": self.wish.seed,
            "resolution": [self.wish.width, self.wish.height],
            "sampling_steps": self.wish.steps,
        }
        if self.ema:
            found["ema"] = True
        if self.references:
            found["references"] = [str(reference.path) for reference in self.references]
        return found


def rounded(plan: Plan, stride: int) -> Plan:
    """The plan with sizes that the family can make: multiples of its stride."""
    near = ((round(width / stride), round(height / stride)) for width, height in plan.sizes)
    sizes = dict.fromkeys((max(1, wide) * stride, max(1, high) * stride) for wide, high in near)
    return evolve(plan, sizes=tuple(sizes))


@contextlib.contextmanager
def _at_rest(*models: torch.nn.Module | None) -> Iterator[None]:
    """Inside, nothing drops out; afterwards each module trains that did."""
    training = [module for model in models if model is not None for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextlib.contextmanager
def _both(averaged: Averaged, held: AbstractContextManager[Any]) -> Iterator[None]:
    with averaged(), held:
        yield
