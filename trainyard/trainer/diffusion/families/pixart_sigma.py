"""PixArt Sigma: transformers of noise that are told a T5's words.

Chen et al. (arXiv:2403.04692); the stock pipelines are diffusers' PixArtSigmaPipeline, and PixArtAlphaPipeline where
the model is told the size and the aspect of the picture too.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import frozen

from trainyard.trainer.diffusion.families.family import Embedding, Shown, Wish
from trainyard.trainer.diffusion.families.parts import checks, lora, pixart
from trainyard.trainer.diffusion.families.parts.components import dtype_of, inner
from trainyard.trainer.diffusion.families.parts.ddpm import Ddpm
from trainyard.trainer.diffusion.families.parts.samplers import sampler
from trainyard.trainer.diffusion.families.parts.t5 import T5
from trainyard.trainer.diffusion.families.parts.usual import Usual
from trainyard.trainer.diffusion.noise import Noise
from trainyard.trainer.diffusion.weights import Weights

if TYPE_CHECKING:
    from PIL.Image import Image

    from schemas.diffusion import Options

_SCHEDULER = {
    "_class_name": "DPMSolverMultistepScheduler",
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}
_T5_LENGTH = 300
#: Latents to a side of the pictures that a flavour was made for, and its blocks by the beginning of its name.
_SIDE = 128
_SIDES = {"600M-512": 64, "600M-2048": 256}
_BLOCKS = {"900M": 42, "600M": 28}


@frozen
class Texts:
    """T5's words of a prompt, which is read without capitals."""

    t5: T5

    @property
    def key(self) -> str:
        """See `family.TextSide`."""
        return f"pixart_sigma 1 {self.t5.key}"

    def encode(self, prompts: Sequence[str]) -> list[Embedding]:
        """`words` (length, d) and `mask` (length,) of each prompt."""
        words, masks = self.t5.encode([_read(prompt) for prompt in prompts])
        return [{"words": w, "mask": m} for w, m in zip(words.cpu(), masks.cpu(), strict=True)]

    def cut(self, prompt: str) -> int:
        """See `family.TextSide.cut`."""
        return self.t5.cut(_read(prompt))


def _read(prompt: str) -> str:
    return prompt.lower().strip()


class PixArtSigma(Usual):
    """See `family.Family`."""

    name = "pixart_sigma"
    flavours: ClassVar[Mapping[str, str]] = {
        "900M-1024-v0.6": "terminusresearch/pixart-900m-1024-ft-v0.6",
        "900M-1024-v0.7-stage1": "terminusresearch/pixart-900m-1024-ft-v0.7-stage1",
        "900M-1024-v0.7-stage2": "terminusresearch/pixart-900m-1024-ft-v0.7-stage2",
        "600M-512": "PixArt-alpha/PixArt-Sigma-XL-2-512-MS",
        "600M-1024": "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        "600M-2048": "PixArt-alpha/PixArt-Sigma-XL-2-2K-MS",
    }
    usual_flavour = "900M-1024-v0.6"
    prediction = "epsilon"
    part = "transformer"
    denoisers = ("PixArtTransformer2DModel", "Transformer2DModel")
    parts = ("transformer", "vae", "text_encoder", "tokenizer")
    elsewhere: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pretrained_transformer_model_name_or_path": ("transformer",),
        "pretrained_vae_model_name_or_path": ("vae",),
        "pretrained_t5_model_name_or_path": ("text_encoder", "tokenizer"),
    }
    classes: ClassVar[Mapping[str, str]] = {
        "vae": "AutoencoderKL",
        "text_encoder": "T5EncoderModel",
        "tokenizer": "T5TokenizerFast",
    }
    lora_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"default": ("to_q", "to_k", "to_v", "to_out.0")}
    stride = 16
    tiny_vae = "madebyollin/taesdxl"  # its VAE is that of SDXL

    def kind(self) -> Any:
        """See `parts.usual.Usual.kind`."""
        from diffusers import PixArtTransformer2DModel

        return PixArtTransformer2DModel

    def told(self, weights: Weights, options: "Options") -> Mapping[str, Any]:
        """For how large pictures it was made: latents to a side, by its flavour."""
        return {"sample_size": _SIDES.get(options.model_flavour or "", _SIDE)}

    def check(self, weights: Weights, options: "Options") -> list[str]:
        """See `family.Family.check`."""
        return [
            *checks.other_family(weights, self.name, self.part, self.denoisers),
            *_other_flavour(weights, options.model_flavour or self.usual_flavour),
            *checks.missing(weights, self.parts, self.elsewhere),
            *checks.flavour(options, self.name, self.flavours),
            *checks.not_elsewhere(options, self.name, self.elsewhere),
            *checks.not_here(options, self.name, checks.RESCALE),
            *checks.of_schedule(options, weights),
        ]

    def notes(self, options: "Options") -> list[str]:
        """See `family.Family.notes`."""
        return checks.no_layer_to_skip(options, "PixArt Sigma has no CLIP")

    def texts(self, weights: Weights, options: "Options", device: torch.device) -> Texts:
        """See `family.Family.texts`."""
        return Texts(T5.of(weights, options, "", _T5_LENGTH, device, masked=True))

    def outline(self, denoiser: torch.nn.Module, options: "Options", count: int) -> tuple[int, Embedding]:
        """See `family.Family.outline`."""
        config, length = inner(denoiser).config, options.tokenizer_max_length or _T5_LENGTH
        words = torch.zeros(count, length, config.caption_channels)
        return config.in_channels, {"words": words, "mask": torch.ones(count, length)}

    def noise(self, weights: Weights, options: "Options") -> Noise:
        """See `family.Family.noise`."""
        return Ddpm.of(options, weights.config("scheduler") or _SCHEDULER)

    def predict(self, denoiser: torch.nn.Module, shown: Shown) -> torch.Tensor:
        """See `family.Family.predict`; what the model says of its variance is left out."""
        device, dtype = shown.latents.device, dtype_of(denoiser)
        config = inner(denoiser).config
        told: dict[str, torch.Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if inner(denoiser).use_additional_conditions:
            sizes = shown.sizes.to(device, dtype)
            told = {"resolution": sizes[:, :2], "aspect_ratio": sizes[:, 4:5] / sizes[:, 5:6]}
        said: torch.Tensor = denoiser(
            shown.latents.to(dtype),
            encoder_hidden_states=shown.texts["words"].to(device, dtype),
            encoder_attention_mask=shown.texts["mask"].to(device),
            timestep=shown.timesteps.to(device),
            added_cond_kwargs=told,
            return_dict=False,
        )[0]
        return said.chunk(2, dim=1)[0] if config.out_channels // 2 == config.in_channels else said

    def pipeline(self, weights: Weights, denoiser: torch.nn.Module, vae: Any, options: "Options") -> Any:
        """See `family.Family.pipeline`."""
        from diffusers import PixArtAlphaPipeline, PixArtSigmaPipeline

        kind = PixArtAlphaPipeline if inner(denoiser).use_additional_conditions else PixArtSigmaPipeline
        made: Any = kind(
            tokenizer=None,
            text_encoder=None,
            vae=vae,
            transformer=denoiser,
            scheduler=sampler(weights, options, _SCHEDULER),
        )
        made.set_progress_bar_config(disable=True)
        return made

    def sample(
        self,
        pipeline: Any,
        text: Embedding,
        negative: Embedding | None,
        wish: Wish,
        references: Sequence["Image"] = (),
        each_step: Callable[[int, torch.Tensor], None] | None = None,
    ) -> "Image":
        """See `family.Family.sample`."""
        device, dtype = pipeline._execution_device, dtype_of(pipeline.transformer)

        def told(step: int, _: Any, latents: torch.Tensor) -> None:
            if each_step is not None:
                each_step(step + 1, latents)

        against = negative or {"words": torch.zeros_like(text["words"]), "mask": text["mask"]}
        made = pipeline(
            negative_prompt=None,
            prompt_embeds=text["words"][None].to(device, dtype),
            prompt_attention_mask=text["mask"][None].to(device),
            negative_prompt_embeds=against["words"][None].to(device, dtype),
            negative_prompt_attention_mask=against["mask"][None].to(device),
            height=wish.height,
            width=wish.width,
            num_inference_steps=wish.steps,
            guidance_scale=wish.guidance if negative is not None else 1.0,
            generator=torch.Generator(wish.seed_source).manual_seed(wish.seed),
            use_resolution_binning=False,
            callback=told,
            output_type="latent",
            return_dict=False,
        )[0]
        picture: Image = pipeline.image_processor.postprocess(self.decode(pipeline.vae, made), output_type="pil")[0]
        return picture

    def save_lora(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """See `family.Family.save_lora`: a folder of peft, the pipeline has no loader of its own."""
        lora.save_folder(denoiser, folder)


def _other_flavour(weights: Weights, flavour: str) -> list[str]:
    """A message where a single file is of another flavour, which alone tells for how large pictures it was made."""
    place = weights.at("transformer")
    if place is None or place.is_dir():
        return []
    found = pixart.layers(weights.tensors("transformer"))
    right = next((size for size, blocks in _BLOCKS.items() if blocks == found), None)
    if right is None or flavour.startswith(right):
        return []
    others = " or ".join(name for name in PixArtSigma.flavours if name.startswith(right))
    said = f"{place} has the {found} blocks of a model of {right}, {flavour} is none"
    return [f"{checks.AT}.model_flavour: {said}; {others} would be right"]


FAMILY = PixArtSigma()
