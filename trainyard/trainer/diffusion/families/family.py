"""The one shape of a family: what the loop, the caches and the validation ask of it."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from attrs import frozen

from trainyard.trainer.diffusion.noise import Noise
from trainyard.trainer.diffusion.weights import Weights

if TYPE_CHECKING:
    from PIL.Image import Image

    from schemas.diffusion import Options

#: What a family's text encoders say of one prompt: tensors by names of the family's own, without a batch axis.
Embedding = Mapping[str, torch.Tensor]


@frozen
class Shown:
    """What a denoiser is shown in one step; the first axis of every tensor counts the samples of the batch."""

    #: (b, c, h, w): latents with noise in them. A family that packs them does it itself.
    latents: torch.Tensor
    #: (b,): 0 (clean) to 1000 (noise).
    timesteps: torch.Tensor
    #: The embeddings of the batch, stacked by the family's `stacked`.
    texts: Embedding
    #: (b, 6): the file's height and width, the crop's top and left, the height and width trained at; in pixels.
    sizes: torch.Tensor
    #: Latents of the pictures to edit, (b, c, h', w') each; empty where the job has none.
    references: tuple[torch.Tensor, ...] = ()
    #: (b,): the guidance that a distilled model is told: what `Family.guidance` drew.
    guidance: torch.Tensor | None = None


@frozen
class Wish:
    """A picture to be made."""

    width: int
    height: int
    steps: int
    guidance: float
    seed: int
    #: Where the generator lives, `cpu` or the device.
    seed_source: str = "cpu"
    #: Guidance by a second pass without the prompt, of families that are told the first kind.
    guidance_real: float = 1.0
    guidance_rescale: float = 0.0


class TextSide(Protocol):
    """Tokenizers and text encoders of a family, on a device."""

    #: Everything that an embedding depends on but the prompt: files of the weights, precisions, lengths.
    key: str

    def encode(self, prompts: Sequence[str]) -> list[Embedding]:
        """One embedding a prompt, on the CPU."""
        ...

    def cut(self, prompt: str) -> int:
        """Tokens of a prompt that the model will not see."""
        ...


class Family(Protocol):
    """A family of image models."""

    name: str
    #: Flavours and the hub id of each.
    flavours: Mapping[str, str]
    usual_flavour: str
    #: `epsilon`, `v_prediction` or `flow_matching`, where neither the weights nor the options say otherwise.
    prediction: str
    #: The component that is trained: `transformer` or `unet`.
    part: str
    #: Named sets of modules that an adapter can be put on; `default` is one of them.
    lora_targets: Mapping[str, tuple[str, ...]]
    #: How many pixels make one place of the latents, in each direction, patches included.
    stride: int
    #: Hub id of a small autoencoder for the latents of its VAE (diffusers' AutoencoderTiny); none: there is none.
    tiny_vae: str | None

    #: Class names that the configuration of its denoiser may have.
    denoisers: Sequence[str]
    #: What must be there, by the folder names of diffusers.
    parts: Sequence[str]
    #: Options that name parts from elsewhere, each with the parts that it names.
    elsewhere: Mapping[str, Sequence[str]]
    #: Of the other parts, the names of their classes in diffusers and transformers.
    classes: Mapping[str, str]
    #: Parts that are the same in all models of the family, and may be had without a token: hub ids.
    everywhere: Mapping[str, str]

    def check(self, weights: Weights, options: "Options") -> list[str]:
        """What is missing in the weights, belongs to another family, or contradicts; each with its option's path.

        Files are looked at by their headers, nothing is loaded.
        """
        ...

    def notes(self, options: "Options") -> list[str]:
        """Options that are taken, and have nothing to act on in this family: told in the log."""
        ...

    def edits(self, options: "Options") -> bool:
        """Whether this flavour is shown pictures to edit."""
        ...

    def texts(self, weights: Weights, options: "Options", device: torch.device) -> TextSide:
        """Its text side; nothing is loaded before it is asked."""
        ...

    def vae(self, weights: Weights, options: "Options", device: torch.device) -> Any:
        """The VAE, frozen, in `vae_dtype`."""
        ...

    def vae_key(self, weights: Weights, options: "Options") -> str:
        """Everything that latents depend on but the picture."""
        ...

    def encode(self, vae: Any, pixels: torch.Tensor, generator: torch.Generator | None = None) -> torch.Tensor:
        """Scaled latents (b, c, h, w) of pixels (b, 3, H, W) between -1 and 1; the mode where no generator is given."""
        ...

    def decode(self, vae: Any, latents: torch.Tensor) -> torch.Tensor:
        """Pixels (b, 3, H, W) of scaled latents, between -1 and 1 as far as the VAE keeps to that."""
        ...

    def denoiser(
        self, weights: Weights, options: "Options", device: torch.device, dtype: torch.dtype | None = None
    ) -> torch.nn.Module:
        """What is trained, frozen; in `dtype`, else in what the job computes in."""
        ...

    def blank(self, weights: Weights, options: "Options", dtype: torch.dtype) -> torch.nn.Module:
        """The same without its weights: every parameter has a shape, and lies on meta."""
        ...

    def outline(self, denoiser: torch.nn.Module, options: "Options", count: int) -> tuple[int, Embedding]:
        """How many channels latents have, and the stacked embeddings of `count` prompts, all zeros: by the
        denoiser's configuration, for what can be known without encoding anything."""
        ...

    def noise(self, weights: Weights, options: "Options") -> Noise:
        """How noise is drawn. Raises `ConfigError` for options that contradict each other."""
        ...

    def guidance(self, options: "Options", count: int, generator: torch.Generator) -> torch.Tensor | None:
        """The guidance that each of `count` samples is trained with, (count,); None where the model is told none."""
        ...

    def stacked(self, embeddings: Sequence[Embedding]) -> Embedding:
        """A batch of them, padded where the family pads."""
        ...

    def predict(self, denoiser: torch.nn.Module, shown: Shown) -> torch.Tensor:
        """What the denoiser says, (b, c, h, w), in its precision: the noise, the velocity or the flow."""
        ...

    def pipeline(self, weights: Weights, denoiser: torch.nn.Module, vae: Any, options: "Options") -> Any:
        """The stock pipeline, without text encoders."""
        ...

    def sample(
        self,
        pipeline: Any,
        text: Embedding,
        negative: Embedding | None,
        wish: Wish,
        references: Sequence["Image"] = (),
        each_step: Callable[[int, torch.Tensor], None] | None = None,
    ) -> "Image":
        """One picture, the same as the stock pipeline makes of the same prompt, seed and settings.

        `each_step` is called with the step's number from 1 and its scaled latents, (1, c, h, w). Without `negative`
        there is no second pass. `references` are shown as large as they are.
        """
        ...

    def save_lora(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """Write a peft adapter as the family's stock loader reads it."""
        ...
