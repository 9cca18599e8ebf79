"""A tiny Flux with an adapter, a few training pictures, and validations of it in this process."""

import hashlib
from pathlib import Path
from types import SimpleNamespace

import torch
from attrs import evolve
from PIL import Image

from schemas.diffusion import Options
from tests.pictures import draw
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.data.gallery import Gallery
from trainyard.trainer.diffusion.data.picture import Frame, Picture
from trainyard.trainer.diffusion.scripts import Scripts
from trainyard.trainer.diffusion.validation.plan import Plan
from trainyard.trainer.diffusion.validation.validating import Validation
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.processes import World

CPU = torch.device("cpu")
_EMBEDDED: dict[tuple[Path, str], object] = {}
USUAL = {
    "model_type": "lora",
    "mixed_precision": "no",
    "vae_dtype": "fp32",
    "validation_prompt": "a red circle",
    "validation_resolution": "32x32",
    "validation_num_inference_steps": 2,
    "seed": 7,
}


def gallery(folder, edge=64):
    """Pictures cut to squares, each beside the one that it was made of."""
    pictures = []
    for path in sorted(p for p in draw(folder, 4, edge).iterdir() if p.suffix != ".txt"):
        reference = picture(path, edge)
        pictures.append(evolve(reference, captions=("x",), references=(reference,)))
    return Gallery(pictures=tuple(pictures), parts=(), captions=("x",))


def picture(path: Path, edge: int) -> Picture:
    size = seen(path).size
    frame = Frame(original=size, resized=(edge, edge), left=0, top=0, width=edge, height=edge)
    return Picture("set", path, hashlib.sha256(path.read_bytes()).hexdigest(), frame, ())


class Studio:
    """One model; `validation` makes another validation of it."""

    def __init__(self, root: Path, pictures: Gallery, run, family="flux", **given):
        self.run, self.gallery = run, pictures
        self.given = {"model_family": family} | USUAL | given
        self.family, self.weights = families.find(family), Weights(name=str(root), root=root)
        self.denoiser = self.family.denoiser(self.weights, self.options(), CPU)
        self.position = SimpleNamespace(step=0, epoch=0, index=0, evaluated=-1)
        self.total = 100

    def options(self, **given) -> Options:
        return Options(**(self.given | given))

    def adapt(self) -> torch.nn.Parameter:
        """Put an adapter on that has an effect; a weight of it."""
        from peft import LoraConfig, inject_adapter_in_model

        torch.manual_seed(1)
        config = LoraConfig(r=4, target_modules=["to_q", "to_v"], init_lora_weights=False, lora_dropout=0.5)
        inject_adapter_in_model(config, self.denoiser)
        self.denoiser.train()
        return next(p for n, p in self.denoiser.named_parameters() if "lora_A" in n)

    def validation(self, **given) -> Validation:
        more = {name: given.pop(name) for name in ("network", "ema", "newest", "look") if name in given}
        options = self.options(**given)
        plan = Plan.of(options)
        return Validation(
            plan=plan,
            run=self.run,
            world=World.alone(CPU),
            family=self.family,
            weights=self.weights,
            options=options,
            gallery=self.gallery,
            embeddings={text: self.embedded(text) for text in plan.texts},
            scripts=Scripts(options, self.run),
            total=lambda: self.total,
            **({"newest": lambda: None} | more),
        )

    def embedded(self, text: str):
        key = self.weights.root, text
        if key not in _EMBEDDED:
            _EMBEDDED[key] = self.family.texts(self.weights, self.options(), CPU).encode([text])[0]
        return _EMBEDDED[key]

    def drawn(self, why="step", step=1, **given) -> dict[str, bytes]:
        """The files of a round by their names, as pixels."""
        self.position.step = step
        self.validation(**given).run(self.denoiser, self.position, why)
        folder = self.run.spec.output / "validation" / f"step-{step}"
        return {p.name: seen(p).tobytes() for p in sorted(folder.iterdir()) if p.is_file()}


def seen(path: Path) -> Image.Image:
    """What is in a file."""
    with Image.open(path) as image:
        return image.convert("RGB")
