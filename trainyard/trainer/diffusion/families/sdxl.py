"""Stable Diffusion XL: a U-Net of noise or velocity that is told two CLIPs' words, the second one's summary, and sizes.

Podell et al. (arXiv:2307.01952); the stock pipeline is diffusers' StableDiffusionXLPipeline.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import frozen

from trainyard.trainer.diffusion.families.family import Embedding, Shown, Wish
from trainyard.trainer.diffusion.families.parts import checks, lora
from trainyard.trainer.diffusion.families.parts.clip import Clip
from trainyard.trainer.diffusion.families.parts.components import computed_in, dtype_of, inner
from trainyard.trainer.diffusion.families.parts.ddpm import Ddpm
from trainyard.trainer.diffusion.families.parts.samplers import sampler
from trainyard.trainer.diffusion.families.parts.usual import Usual
from trainyard.trainer.diffusion.noise import Noise
from trainyard.trainer.diffusion.weights import Weights

if TYPE_CHECKING:
    from PIL.Image import Image

    from schemas.diffusion import Options

_SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
}

#: Sizes that it is told of each picture, and tokens that its CLIPs read.
_SIZES, _CLIP_LENGTH = 6, 77


@frozen
class Texts:
    """The words of both CLIPs side by side, and the summary of the second."""

    first: Clip
    second: Clip
    #: Hidden layers left out, beside the last one, which SDXL never reads.
    skip: int

    @property
    def key(self) -> str:
        """See `family.TextSide`."""
        return f"sdxl 1 {self.first.key} {self.second.key} {self.skip}"

    def encode(self, prompts: Sequence[str]) -> list[Embedding]:
        """`words` (77, d) and `summary` (p,) of each prompt."""
        told = [clip.ask(prompts, hidden=True) for clip in (self.first, self.second)]
        words = torch.cat([each.hidden_states[-(self.skip + 2)] for each in told], dim=-1).cpu()
        summaries = told[1].text_embeds.cpu()
        return [{"words": w, "summary": s} for w, s in zip(words, summaries, strict=True)]

    def cut(self, prompt: str) -> int:
        """Both cut alike."""
        return self.first.cut(prompt)


class Sdxl(Usual):
    """See `family.Family`."""

    name = "sdxl"
    flavours: ClassVar[Mapping[str, str]] = {
        "base-1.0": "stabilityai/stable-diffusion-xl-base-1.0",
        "base-0.9": "stabilityai/stable-diffusion-xl-base-0.9",
    }
    usual_flavour = "base-1.0"
    prediction = "epsilon"
    part = "unet"
    denoisers = ("UNet2DConditionModel",)
    parts = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    elsewhere: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pretrained_unet_model_name_or_path": ("unet",),
        "pretrained_vae_model_name_or_path": ("vae",),
    }
    classes: ClassVar[Mapping[str, str]] = {
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "tokenizer_2": "CLIPTokenizer",
    }
    lora_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {"default": ("to_q", "to_k", "to_v", "to_out.0")}
    stride = 8
    tiny_vae = "madebyollin/taesdxl"

    def kind(self) -> Any:
        """See `parts.usual.Usual.kind`."""
        from diffusers import UNet2DConditionModel

        return UNet2DConditionModel

    def check(self, weights: Weights, options: "Options") -> list[str]:
        """See `family.Family.check`."""
        return [
            *checks.other_family(weights, self.name, self.part, self.denoisers),
            *_other_unet(weights),
            *checks.missing(weights, self.parts, self.elsewhere),
            *checks.flavour(options, self.name, self.flavours),
            *checks.not_elsewhere(options, self.name, self.elsewhere),
            *checks.not_here(options, self.name, checks.T5),
            *checks.of_schedule(options, weights),
        ]

    def texts(self, weights: Weights, options: "Options", device: torch.device) -> Texts:
        """See `family.Family.texts`."""
        dtype = computed_in(options)
        first = Clip(weights=weights, number="", dtype=dtype, device=device)
        second = Clip(weights=weights, number="_2", dtype=dtype, device=device, projected=True)
        return Texts(first, second, options.clip_skip)

    def outline(self, denoiser: torch.nn.Module, options: "Options", count: int) -> tuple[int, Embedding]:
        """See `family.Family.outline`."""
        config = inner(denoiser).config
        summary = config.projection_class_embeddings_input_dim - _SIZES * config.addition_time_embed_dim
        words = torch.zeros(count, _CLIP_LENGTH, config.cross_attention_dim)
        return config.in_channels, {"words": words, "summary": torch.zeros(count, summary)}

    def noise(self, weights: Weights, options: "Options") -> Noise:
        """See `family.Family.noise`."""
        return Ddpm.of(options, weights.config("scheduler") or _SCHEDULER)

    def predict(self, denoiser: torch.nn.Module, shown: Shown) -> torch.Tensor:
        """See `family.Family.predict`."""
        device, dtype = shown.latents.device, dtype_of(denoiser)
        told = {"text_embeds": shown.texts["summary"].to(device, dtype), "time_ids": shown.sizes.to(device, dtype)}
        said: torch.Tensor = denoiser(
            shown.latents.to(dtype),
            shown.timesteps.to(device),
            encoder_hidden_states=shown.texts["words"].to(device, dtype),
            added_cond_kwargs=told,
            return_dict=False,
        )[0]
        return said

    def pipeline(self, weights: Weights, denoiser: torch.nn.Module, vae: Any, options: "Options") -> Any:
        """See `family.Family.pipeline`."""
        from diffusers import StableDiffusionXLPipeline

        made: Any = StableDiffusionXLPipeline(
            vae=vae,
            text_encoder=None,
            text_encoder_2=None,
            tokenizer=None,
            tokenizer_2=None,
            unet=denoiser,
            scheduler=sampler(weights, options, _SCHEDULER),
            add_watermarker=False,
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
        device, dtype = pipeline._execution_device, dtype_of(pipeline.unet)

        def told(_: Any, step: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            if each_step is not None:
                each_step(step + 1, values["latents"])
            return {}

        against = negative or {name: torch.zeros_like(tensor) for name, tensor in text.items()}
        made = pipeline(
            prompt_embeds=text["words"][None].to(device, dtype),
            pooled_prompt_embeds=text["summary"][None].to(device, dtype),
            negative_prompt_embeds=against["words"][None].to(device, dtype),
            negative_pooled_prompt_embeds=against["summary"][None].to(device, dtype),
            height=wish.height,
            width=wish.width,
            num_inference_steps=wish.steps,
            guidance_scale=wish.guidance if negative is not None else 1.0,
            guidance_rescale=wish.guidance_rescale,
            generator=torch.Generator(wish.seed_source).manual_seed(wish.seed),
            callback_on_step_end=told,
            output_type="latent",
            return_dict=False,
        )[0]
        picture: Image = pipeline.image_processor.postprocess(self.decode(pipeline.vae, made), output_type="pil")[0]
        return picture

    def save_lora(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """See `family.Family.save_lora`."""
        from diffusers import StableDiffusionXLPipeline

        StableDiffusionXLPipeline.save_lora_weights(
            folder, unet_lora_layers=lora.tensors(denoiser), unet_lora_adapter_metadata=lora.described(denoiser)
        )


def _other_unet(weights: Weights) -> list[str]:
    """A message where the U-Net is told no sizes: it is of another Stable Diffusion."""
    config = weights.config("unet")
    if not config or config.get("addition_embed_type") == "text_time":
        return []
    return [f"{checks.AT}.model_family: {weights.name}: its U-Net is told no sizes, as that of sdxl is"]


FAMILY = Sdxl()
