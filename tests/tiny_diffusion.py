"""Real, tiny image models made on the spot, with real tokenizers: for tests of whatever trains or loads one."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: What the tokenizers are trained on; captions out of these words are cut into few tokens.
WORDS = tuple(
    f"a {size} {colour} {shape} {place} a {ground} background, photograph number {n}"
    for n, (size, colour, shape, place, ground) in enumerate(
        (size, colour, shape, place, ground)
        for size in ("small", "large")
        for colour in ("red", "green", "blue", "yellow")
        for shape in ("circle", "square", "triangle", "star")
        for place in ("on", "beside")
        for ground in ("striped", "checkered")
    )
)
#: Four blocks: the VAE makes one place of 8 × 8 pixels, as those of the real families do.
VAE_BLOCKS = (4, 4, 8, 8)
FAMILIES = ("flux", "pixart_sigma", "sdxl")


def make_tiny(family: str, folder: Path, **shape: Any) -> Path:
    """Write a model of a family into `folder`, as diffusers lays it out; the same for the same shape.

    `vae_blocks`: channels of the VAE's blocks; of Flux `flavour` `dev` (default), `schnell` or `kontext`, and
    `published`: as single files can hold it, with what no tensor tells as it is in the real model; of SDXL
    `prediction_type` and `published`; of PixArt Sigma `published` and `sample_size`, 128 has it told the size and the
    aspect.
    """
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipeline = _MAKERS[family](**shape)
    pipeline.save_pretrained(folder)
    return folder


def shared_tiny(family: str, tmp_path_factory: Any, **shape: Any) -> Path:
    """As `make_tiny`, once a test session, for all its processes; nobody may write into it."""
    name = "-".join([family, *(f"{key}-{value}" for key, value in sorted(shape.items()))]).replace(" ", "")
    base = tmp_path_factory.getbasetemp()
    base = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base
    folder = Path(base) / "tiny-diffusion" / name
    if not folder.is_dir():
        own = folder.with_name(f"{name}.{os.getpid()}")
        make_tiny(family, own, **shape)
        try:
            own.rename(folder)
        except OSError:
            shutil.rmtree(own)
    return folder


def clip_tokenizer(texts: Sequence[str] = WORDS, length: int = 77) -> Any:
    """A BPE whose words end in `</w>`."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learned = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=800, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    learned.train_from_iterator([word for text in texts for word in text.split()], trainer)
    told = json.loads(learned.to_str())["model"]
    vocabulary = dict.fromkeys([*letters, *(f"{letter}</w>" for letter in letters), *sorted(told["vocab"])])
    names = [*vocabulary, "<|startoftext|>", "<|endoftext|>"]
    merges = [tuple(pair) for pair in told["merges"]]
    return CLIPTokenizer(vocab={n: i for i, n in enumerate(names)}, merges=merges, model_max_length=length)


def t5_tokenizer(texts: Sequence[str] = WORDS, length: int = 512) -> Any:
    """A Unigram."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import T5TokenizerFast

    learned = Tokenizer(models.Unigram())
    learned.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "</s>", "<unk>"]
    letters = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"()-▁")
    trainer = trainers.UnigramTrainer(
        vocab_size=600, special_tokens=special, unk_token="<unk>", initial_alphabet=letters, show_progress=False
    )
    learned.train_from_iterator(texts, trainer)
    vocabulary = [tuple(pair) for pair in json.loads(learned.to_str())["model"]["vocab"]]
    return T5TokenizerFast(vocab=vocabulary, extra_ids=0, model_max_length=length)


def _clip(tokenizer: Any, projected: bool = False, width: int = 32, heads: int = 4) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=37,
        num_hidden_layers=3,
        num_attention_heads=heads,
        max_position_embeddings=tokenizer.model_max_length,
        projection_dim=width,
        hidden_act="gelu" if projected else "quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _t5(tokenizer: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=32,
            d_kv=8,
            d_ff=37,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.pad_token_id,
        )
    )


def make_vae(blocks: Sequence[int] = VAE_BLOCKS, channels: int = 4, groups: int = 2, **config: Any) -> Any:
    """An `AutoencoderKL`."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(blocks),
        up_block_types=("UpDecoderBlock2D",) * len(blocks),
        block_out_channels=tuple(blocks),
        layers_per_block=1,
        latent_channels=channels,
        norm_num_groups=groups,
        **config,
    )


def _flux(flavour: str = "dev", vae_blocks: Sequence[int] = VAE_BLOCKS, published: bool = False) -> Any:
    from diffusers import (
        FlowMatchEulerDiscreteScheduler,
        FluxKontextPipeline,
        FluxPipeline,
        FluxTransformer2DModel,
    )

    clip, t5 = clip_tokenizer(), t5_tokenizer()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32 if published else 16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=64 if published else 32,
        guidance_embeds=flavour != "schnell",
        axes_dims_rope=(4, 14, 14) if published else (4, 4, 8),
    )
    vae = make_vae(
        (32, 32) if published else vae_blocks,
        4,
        groups=32 if published else 2,
        use_quant_conv=False,
        use_post_quant_conv=False,
        **(
            {"shift_factor": 0.1159, "scaling_factor": 0.3611}
            if published
            else {"shift_factor": 0.1, "scaling_factor": 0.4}
        ),
    )
    dev = {"shift": 3.0, "use_dynamic_shifting": True}
    return (FluxKontextPipeline if flavour == "kontext" else FluxPipeline)(
        scheduler=FlowMatchEulerDiscreteScheduler(**({"shift": 1.0} if flavour == "schnell" else dev)),
        vae=vae,
        text_encoder=_clip(clip, width=64, heads=1) if published else _clip(clip),
        tokenizer=clip,
        text_encoder_2=_t5(t5),
        tokenizer_2=t5,
        transformer=transformer,
    )


def _pixart_sigma(sample_size: int = 64, vae_blocks: Sequence[int] = VAE_BLOCKS, published: bool = False) -> Any:
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel

    t5 = t5_tokenizer(length=300)
    transformer = PixArtTransformer2DModel(
        num_layers=2,
        num_attention_heads=1 if published else 3,
        attention_head_dim=72 if published else 8,
        cross_attention_dim=72 if published else 24,
        caption_channels=32,
        in_channels=4,
        out_channels=8,
        sample_size=sample_size,
        interpolation_scale=sample_size // 64 if published else 1,
    )
    return PixArtSigmaPipeline(
        tokenizer=t5,
        text_encoder=_t5(t5),
        vae=make_vae(vae_blocks, 4, scaling_factor=0.13025),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
    )


def _sdxl(prediction_type: str = "epsilon", vae_blocks: Sequence[int] = VAE_BLOCKS, published: bool = False) -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    one, two = clip_tokenizer(), clip_tokenizer()
    unet = UNet2DConditionModel(
        sample_size=128 if published else 8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(64, 128) if published else (2, 4),
        layers_per_block=2,
        norm_num_groups=32 if published else 1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(1, 2) if published else (2, 4),
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256 if published else 8,
        transformer_layers_per_block=(1, 2),
        projection_class_embeddings_input_dim=6 * 256 + 64 if published else 80,
        cross_attention_dim=128 if published else 64,
    )
    width, heads = (64, 1) if published else (32, 4)
    return StableDiffusionXLPipeline(
        vae=make_vae((32, 32), 4, groups=32, scaling_factor=0.13025)
        if published
        else make_vae(vae_blocks, 4, scaling_factor=0.13025),
        text_encoder=_clip(one, width=width, heads=heads),
        text_encoder_2=_clip(two, projected=True, width=width, heads=heads),
        tokenizer=one,
        tokenizer_2=two,
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            timestep_spacing="leading",
            steps_offset=1,
            prediction_type=prediction_type,
        ),
    )


_MAKERS: dict[str, Callable[..., Any]] = {"flux": _flux, "pixart_sigma": _pixart_sigma, "sdxl": _sdxl}
