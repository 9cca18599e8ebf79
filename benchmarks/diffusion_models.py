"""Image models of random weights, of any size, with real tokenizers: as diffusers lays them out on a disk."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.tiny_diffusion import clip_tokenizer, make_vae, t5_tokenizer

if TYPE_CHECKING:
    from benchmarks.diffusion_work import Size

_HEAD = 64


def make_model(family: str, size: "Size", folder: Path) -> None:
    """Write one."""
    import torch

    torch.manual_seed(0)
    make = flux if family == "flux" else pixart_sigma
    make(size.width, size.layers, size.vae).save_pretrained(folder)


def flux(
    width: int,
    layers: int,
    vae: tuple[int, ...],
    *,
    single: int | None = None,
    head: int = _HEAD,
    words: int = 256,
    summary: int = 256,
) -> Any:
    """`layers` double blocks, and as many single ones where `single` is none; encoders of these widths."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel

    clip, t5 = clip_tokenizer(), t5_tokenizer()
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=make_vae(vae, 16, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1, scaling_factor=0.4),
        text_encoder=_clip(clip, summary),
        tokenizer=clip,
        text_encoder_2=_t5(t5, words),
        tokenizer_2=t5,
        transformer=FluxTransformer2DModel(
            in_channels=64,
            num_layers=layers,
            num_single_layers=layers if single is None else single,
            attention_head_dim=head,
            num_attention_heads=width // head,
            joint_attention_dim=words,
            pooled_projection_dim=summary,
            guidance_embeds=True,
            axes_dims_rope=(16, (head - 16) // 2, (head - 16) // 2),
        ),
    )


def pixart_sigma(width: int, layers: int, vae: tuple[int, ...], wide: int = 256) -> Any:
    """`layers` blocks; a text encoder of width `wide`."""
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    t5 = t5_tokenizer(length=300)
    return PixArtSigmaPipeline(
        tokenizer=t5,
        text_encoder=_t5(t5, wide),
        vae=make_vae(vae, 4, scaling_factor=0.13025),
        transformer=PixArtTransformer2DModel(
            num_layers=layers,
            num_attention_heads=width // _HEAD,
            attention_head_dim=_HEAD,
            cross_attention_dim=width,
            caption_channels=wide,
            in_channels=4,
            out_channels=8,
            sample_size=64,
            interpolation_scale=1,
        ),
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
    )


def _clip(tokenizer: Any, width: int) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=width,
            num_hidden_layers=1,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _t5(tokenizer: Any, width: int) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=width,
            d_kv=width // 4,
            d_ff=width,
            num_layers=1,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )
