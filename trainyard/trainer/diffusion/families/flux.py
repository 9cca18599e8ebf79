"""Flux: transformers of flow over packed latents, told a CLIP's summary and a T5's words; Kontext also pictures.

Black Forest Labs, FLUX.1 Kontext (arXiv:2506.15742); the stock pipelines are diffusers' FluxPipeline and
FluxKontextPipeline.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from attrs import frozen

from trainyard.trainer.diffusion.families.family import Embedding, Shown, Wish
from trainyard.trainer.diffusion.families.parts import checks, lora, packing
from trainyard.trainer.diffusion.families.parts.clip import Clip
from trainyard.trainer.diffusion.families.parts.components import computed_in, dtype_of, inner, scheduler
from trainyard.trainer.diffusion.families.parts.flow import Flow
from trainyard.trainer.diffusion.families.parts.t5 import T5
from trainyard.trainer.diffusion.families.parts.usual import Usual
from trainyard.trainer.diffusion.noise import STEPS, Noise
from trainyard.trainer.diffusion.weights import Weights

if TYPE_CHECKING:
    from PIL.Image import Image

    from schemas.diffusion import Options

_SCHEDULER = {"shift": 3.0, "use_dynamic_shifting": True}
_SCHEDULERS = {"schnell": {"shift": 1.0, "use_dynamic_shifting": False}}
_T5_LENGTH = 512
_T5_LENGTHS = {"schnell": 256}
_IMAGE = ("to_q", "to_k", "to_v", "to_out.0")
_WORDS = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
_WORDS_FF = ("ff_context.net.0.proj", "ff_context.net.2")
_FF = ("ff.net.0.proj", "ff.net.2", *_WORDS_FF, "proj_mlp", "proj_out")
_NORMS = ("norm.linear", "norm1.linear", "norm1_context.linear")


@frozen
class Texts:
    """CLIP's summary and T5's words of a prompt."""

    clip: Clip
    t5: T5
    #: Whether the model is told which of the words are padding.
    masked: bool

    @property
    def key(self) -> str:
        """See `family.TextSide`."""
        return f"flux 1 {self.clip.key} {self.t5.key} {self.masked}"

    def encode(self, prompts: Sequence[str]) -> list[Embedding]:
        """`words` (length, d) and `summary` (p,) of each prompt; `mask` (length,) where the padding is hidden."""
        words, masks = self.t5.encode(prompts)
        summaries = self.clip.ask(prompts, hidden=False).pooler_output
        told = zip(words.cpu(), summaries.cpu(), masks.cpu(), strict=True)
        return [{"words": w, "summary": s} | ({"mask": m} if self.masked else {}) for w, s, m in told]

    def cut(self, prompt: str) -> int:
        """T5 reads more of a prompt than CLIP does; what it does not read is lost."""
        return self.t5.cut(prompt)


class Flux(Usual):
    """See `family.Family`."""

    name = "flux"
    flavours: ClassVar[Mapping[str, str]] = {
        "dev": "black-forest-labs/FLUX.1-dev",
        "krea": "black-forest-labs/FLUX.1-Krea-dev",
        "schnell": "black-forest-labs/FLUX.1-schnell",
        "kontext": "black-forest-labs/FLUX.1-Kontext-dev",
    }
    usual_flavour = "dev"
    prediction = "flow_matching"
    part = "transformer"
    denoisers = ("FluxTransformer2DModel",)
    parts = ("transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    elsewhere: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "pretrained_transformer_model_name_or_path": ("transformer",),
        "pretrained_vae_model_name_or_path": ("vae",),
        "pretrained_clip_model_name_or_path": ("text_encoder", "tokenizer"),
        "pretrained_t5_model_name_or_path": ("text_encoder_2", "tokenizer_2"),
    }
    classes: ClassVar[Mapping[str, str]] = {
        "vae": "AutoencoderKL",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
        "text_encoder_2": "T5EncoderModel",
        "tokenizer_2": "T5TokenizerFast",
    }
    everywhere: ClassVar[Mapping[str, str]] = {
        "tokenizer": "openai/clip-vit-large-patch14",
        "tokenizer_2": "google/t5-v1_1-xxl",
    }
    lora_targets: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "default": (*_IMAGE, *_WORDS),
        "all": (*_IMAGE, *_WORDS),
        "mmdit": _IMAGE,
        "context": _WORDS,
        "context+ffs": (*_WORDS, *_WORDS_FF),
        "all+ffs": (*_IMAGE, *_WORDS, *_FF),
        "ai-toolkit": (*_IMAGE, *_WORDS, *_FF, *_NORMS),
        "tiny": tuple(f"single_transformer_blocks.{n}.proj_out" for n in (7, 12, 16, 20)),
        "nano": ("single_transformer_blocks.7.proj_out",),
    }
    stride = 16
    tiny_vae = "madebyollin/taef1"
    single_vae: ClassVar[Mapping[str, float]] = {"scaling_factor": 0.3611, "shift_factor": 0.1159}

    def kind(self) -> Any:
        """See `parts.usual.Usual.kind`."""
        from diffusers import FluxTransformer2DModel

        return FluxTransformer2DModel

    def check(self, weights: Weights, options: "Options") -> list[str]:
        """See `family.Family.check`."""
        found = [
            *checks.other_family(weights, self.name, self.part, self.denoisers),
            *checks.missing(weights, self.parts, self.elsewhere),
            *checks.flavour(options, self.name, self.flavours),
            *checks.not_elsewhere(options, self.name, self.elsewhere),
            *checks.not_here(options, self.name, (*checks.FLOW, *checks.RESCALE)),
            *checks.of_flow(options),
        ]
        if weights.index().get("_class_name") == "FluxKontextPipeline" and not self.edits(options):
            found.append(f"{checks.AT}.model_flavour: {weights.name} is made to edit; kontext would be right")
        return found

    def notes(self, options: "Options") -> list[str]:
        """See `family.Family.notes`."""
        return checks.no_layer_to_skip(options, "Flux is told the summary of its CLIP, not a hidden layer")

    def edits(self, options: "Options") -> bool:
        """Kontext does."""
        return options.model_flavour == "kontext"

    def texts(self, weights: Weights, options: "Options", device: torch.device) -> Texts:
        """See `family.Family.texts`."""
        length = _T5_LENGTHS.get(options.model_flavour or self.usual_flavour, _T5_LENGTH)
        clip = Clip(weights=weights, number="", dtype=computed_in(options), device=device)
        t5 = T5.of(weights, options, "_2", length, device, masked=False)
        return Texts(clip, t5, options.flux_attention_masked_training)

    def outline(self, denoiser: torch.nn.Module, options: "Options", count: int) -> tuple[int, Embedding]:
        """See `family.Family.outline`."""
        config = inner(denoiser).config
        usual = _T5_LENGTHS.get(options.model_flavour or self.usual_flavour, _T5_LENGTH)
        length = options.tokenizer_max_length or usual
        told = {
            "words": torch.zeros(count, length, config.joint_attention_dim),
            "summary": torch.zeros(count, config.pooled_projection_dim),
        }
        hidden = {"mask": torch.ones(count, length)} if options.flux_attention_masked_training else {}
        return config.in_channels // 4, told | hidden

    def noise(self, weights: Weights, options: "Options") -> Noise:
        """See `family.Family.noise`."""
        return Flow.of(options, weights.config("scheduler"))

    def guidance(self, options: "Options", count: int, generator: torch.Generator) -> torch.Tensor:
        """See `family.Family.guidance`."""
        if options.flux_guidance_mode == "constant":
            return torch.full((count,), float(options.flux_guidance_value))
        low, high = options.flux_guidance_min, options.flux_guidance_max
        return low + (high - low) * torch.rand(count, generator=generator, device=generator.device)

    def predict(self, denoiser: torch.nn.Module, shown: Shown) -> torch.Tensor:
        """See `family.Family.predict`; the pictures to edit stand behind the latents in the sequence."""
        device, dtype = shown.latents.device, dtype_of(denoiser)
        height, width = shown.latents.shape[-2:]
        pictures = [shown.latents, *shown.references]
        tokens = torch.cat([packing.packed(each.to(device, dtype)) for each in pictures], dim=1)
        words = shown.texts["words"].to(device, dtype)
        guidance = None
        if inner(denoiser).config.guidance_embeds:
            guidance = torch.ones(len(tokens)) if shown.guidance is None else shown.guidance
            guidance = guidance.to(device, torch.float32)
        said = denoiser(
            hidden_states=tokens,
            timestep=(shown.timesteps / STEPS).to(device, dtype),
            guidance=guidance,
            pooled_projections=shown.texts["summary"].to(device, dtype),
            encoder_hidden_states=words,
            txt_ids=torch.zeros(words.shape[1], 3, device=device, dtype=dtype),
            img_ids=packing.places((height, width), [r.shape[-2:] for r in shown.references]).to(device, dtype),
            joint_attention_kwargs=_hidden(shown.texts.get("mask"), tokens.shape[1], device),
            return_dict=False,
        )[0]
        return packing.unpacked(said[:, : height * width // 4], height, width)

    def pipeline(self, weights: Weights, denoiser: torch.nn.Module, vae: Any, options: "Options") -> Any:
        """See `family.Family.pipeline`."""
        from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

        from trainyard.trainer.diffusion.families.parts.kontext import Kontext

        usual = _SCHEDULERS.get(options.model_flavour or self.usual_flavour, _SCHEDULER)
        made: Any = (Kontext if self.edits(options) else FluxPipeline)(
            scheduler=scheduler(FlowMatchEulerDiscreteScheduler, weights, usual),
            vae=vae,
            text_encoder=None,
            tokenizer=None,
            text_encoder_2=None,
            tokenizer_2=None,
            transformer=denoiser,
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
        """See `family.Family.sample`. A second pass is made where `wish.guidance_real` is more than 1."""
        device, dtype = pipeline._execution_device, dtype_of(pipeline.transformer)
        edge = pipeline.vae_scale_factor * 2
        height, width = 2 * (wish.height // edge), 2 * (wish.width // edge)

        def told(_: Any, step: int, __: Any, values: dict[str, Any]) -> dict[str, Any]:
            if each_step is not None:
                each_step(step + 1, packing.unpacked(values["latents"], height, width))
            return {}

        passes = [text] if negative is None or wish.guidance_real <= 1 else [text, negative]
        words, summary = ([each[name][None].to(device, dtype) for each in passes] for name in ("words", "summary"))
        more: dict[str, Any] = {}
        if len(passes) > 1:
            more |= {"negative_prompt_embeds": words[1], "negative_pooled_prompt_embeds": summary[1]}
        shown = [self._shown(pipeline, picture, edge) for picture in references]
        if hasattr(pipeline, "further"):
            pipeline.further = tuple(shown[1:])
            more |= {"image": shown[0] if shown else None, "max_area": wish.width * wish.height}
        length = (height * width + sum(each.shape[-2] * each.shape[-1] for each in shown)) // 4
        # Both passes are shown one mask: where either prompt has a word.
        masks = [each["mask"].bool() for each in passes if "mask" in each]
        mask = torch.stack(masks).any(0, keepdim=True) if masks else None
        made = pipeline(
            prompt_embeds=words[0],
            pooled_prompt_embeds=summary[0],
            true_cfg_scale=wish.guidance_real,
            height=wish.height,
            width=wish.width,
            num_inference_steps=wish.steps,
            guidance_scale=wish.guidance,
            generator=torch.Generator(wish.seed_source).manual_seed(wish.seed),
            joint_attention_kwargs=_hidden(mask, length, device),
            callback_on_step_end=told,
            output_type="latent",
            return_dict=False,
            **more,
        )[0]
        pixels = self.decode(pipeline.vae, packing.unpacked(made, height, width))
        picture: Image = pipeline.image_processor.postprocess(pixels, output_type="pil")[0]
        return picture

    def _shown(self, pipeline: Any, picture: "Image", edge: int) -> torch.Tensor:
        """Latents of a picture to edit, cut down to whole tokens as the stock pipeline does it."""
        height, width = picture.height // edge * edge, picture.width // edge * edge
        resized = pipeline.image_processor.resize(picture.convert("RGB"), height, width)
        return self.encode(pipeline.vae, pipeline.image_processor.preprocess(resized, height, width))

    def save_lora(self, denoiser: torch.nn.Module, folder: Path) -> None:
        """See `family.Family.save_lora`."""
        from diffusers import FluxPipeline

        FluxPipeline.save_lora_weights(
            folder,
            transformer_lora_layers=lora.tensors(denoiser),
            transformer_lora_adapter_metadata=lora.described(denoiser),
        )


def _hidden(mask: torch.Tensor | None, length: int, device: torch.device) -> dict[str, torch.Tensor] | None:
    """What hides the padding of prompts, 0 in `mask` (b, words), that `length` tokens of pictures stand behind."""
    if mask is None:
        return None
    pictures = torch.ones(len(mask), length, dtype=torch.bool, device=mask.device)
    return {"attention_mask": torch.cat([mask.bool(), pictures], dim=1)[:, None, None, :].to(device)}


FAMILY = Flux()
