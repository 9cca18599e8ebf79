"""Our tiny models in the layouts of other people's single files, as publishers upload them."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

State = dict[str, torch.Tensor]

_FLUX_TOP = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "proj_out": "final_layer.linear",
}
_FLUX_DOUBLE = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
_FLUX_FUSED = {
    "img_attn": ("to_q", "to_k", "to_v"),
    "txt_attn": ("add_q_proj", "add_k_proj", "add_v_proj"),
}
_FLUX_NORMS = {
    "attn.norm_q": "img_attn.norm.query_norm",
    "attn.norm_k": "img_attn.norm.key_norm",
    "attn.norm_added_q": "txt_attn.norm.query_norm",
    "attn.norm_added_k": "txt_attn.norm.key_norm",
}


def flux_files(pipeline: Any, folder: Path) -> Path:
    """The four files of the Flux Train API in `folder`, and the tokenizers beside them; the transformer's path."""
    folder.mkdir(parents=True, exist_ok=True)
    transformer = folder / "flux1-dev.sft"
    save_file(bfl(pipeline.transformer), transformer)
    save_file(ldm_vae(pipeline.vae.state_dict()), folder / "ae.sft")
    clip = {f"text_model.{name}": tensor for name, tensor in pipeline.text_encoder.state_dict().items()}
    save_file(clip, folder / "clip_l.safetensors")
    save_file(t5_state(pipeline.text_encoder_2), folder / "t5xxl_fp16.safetensors")
    for part in ("tokenizer", "tokenizer_2"):
        getattr(pipeline, part).save_pretrained(folder / part)
    return transformer


def t5_state(encoder: Any) -> State:
    """A T5 encoder as it is uploaded alone: its tied embeddings once."""
    return {name: t for name, t in encoder.state_dict().items() if name != "encoder.embed_tokens.weight"}


def bfl(transformer: Any) -> State:
    """Flux's transformer as Black Forest Labs write it."""
    state, found = dict(transformer.state_dict()), {}
    for name, tensor in state.items():
        module, _, last = name.rpartition(".")
        if module in _FLUX_TOP:
            found[f"{_FLUX_TOP[module]}.{last}"] = tensor
    for last in ("weight", "bias"):
        scale, shift = state[f"norm_out.linear.{last}"].chunk(2)
        found[f"final_layer.adaLN_modulation.1.{last}"] = torch.cat([shift, scale])
    for n in range(len(transformer.transformer_blocks)):
        found |= _double(state, f"transformer_blocks.{n}", f"double_blocks.{n}")
    for n in range(len(transformer.single_transformer_blocks)):
        found |= _single(state, f"single_transformer_blocks.{n}", f"single_blocks.{n}")
    return found


def _double(state: State, own: str, theirs: str) -> State:
    found = {}
    for last in ("weight", "bias"):
        for module, name in _FLUX_DOUBLE.items():
            found[f"{theirs}.{name}.{last}"] = state[f"{own}.{module}.{last}"]
        for name, parts in _FLUX_FUSED.items():
            found[f"{theirs}.{name}.qkv.{last}"] = torch.cat([state[f"{own}.attn.{part}.{last}"] for part in parts])
    for module, name in _FLUX_NORMS.items():
        found[f"{theirs}.{name}.scale"] = state[f"{own}.{module}.weight"]
    return found


def _single(state: State, own: str, theirs: str) -> State:
    found = {}
    for last in ("weight", "bias"):
        parts = ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
        found[f"{theirs}.linear1.{last}"] = torch.cat([state[f"{own}.{part}.{last}"] for part in parts])
        found[f"{theirs}.linear2.{last}"] = state[f"{own}.proj_out.{last}"]
        found[f"{theirs}.modulation.lin.{last}"] = state[f"{own}.norm.linear.{last}"]
    found[f"{theirs}.norm.query_norm.scale"] = state[f"{own}.attn.norm_q.weight"]
    found[f"{theirs}.norm.key_norm.scale"] = state[f"{own}.attn.norm_k.weight"]
    return found


_PIXART = {
    "pos_embed.proj": "x_embedder.proj",
    "caption_projection.linear_1": "y_embedder.y_proj.fc1",
    "caption_projection.linear_2": "y_embedder.y_proj.fc2",
    "adaln_single.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "adaln_single.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "adaln_single.emb.resolution_embedder.linear_1": "csize_embedder.mlp.0",
    "adaln_single.emb.resolution_embedder.linear_2": "csize_embedder.mlp.2",
    "adaln_single.emb.aspect_ratio_embedder.linear_1": "ar_embedder.mlp.0",
    "adaln_single.emb.aspect_ratio_embedder.linear_2": "ar_embedder.mlp.2",
    "adaln_single.linear": "t_block.1",
    "proj_out": "final_layer.linear",
}
_PIXART_BLOCK = {
    "attn.proj": ["attn1.to_out.0"],
    "attn.qkv": ["attn1.to_q", "attn1.to_k", "attn1.to_v"],
    "cross_attn.q_linear": ["attn2.to_q"],
    "cross_attn.kv_linear": ["attn2.to_k", "attn2.to_v"],
    "cross_attn.proj": ["attn2.to_out.0"],
    "mlp.fc1": ["ff.net.0.proj"],
    "mlp.fc2": ["ff.net.2"],
}


def pixart(transformer: Any, places: bool = True) -> State:
    """PixArt Sigma's transformer as its authors write it; `places`: with the table of places that they keep in it."""
    state = transformer.state_dict()
    found = {"final_layer.scale_shift_table": state["scale_shift_table"]}
    found["y_embedder.y_embedding"] = torch.zeros(120, transformer.config.caption_channels)
    if places:
        found["pos_embed"] = transformer.pos_embed.pos_embed
    for last in ("weight", "bias"):
        for own, theirs in _PIXART.items():
            if f"{own}.{last}" in state:
                found[f"{theirs}.{last}"] = state[f"{own}.{last}"]
        for n in range(len(transformer.transformer_blocks)):
            at = f"transformer_blocks.{n}"
            found[f"blocks.{n}.scale_shift_table"] = state[f"{at}.scale_shift_table"]
            for theirs, parts in _PIXART_BLOCK.items():
                found[f"blocks.{n}.{theirs}.{last}"] = torch.cat([state[f"{at}.{part}.{last}"] for part in parts])
    return {name: tensor.contiguous().clone() for name, tensor in found.items()}


def sdxl_file(pipeline: Any, folder: Path) -> Path:
    """All of an SDXL in one file of its authors' layout, and the tokenizers beside it; the file's path."""
    unet = {f"model.diffusion_model.{name}": tensor for name, tensor in _ldm_unet(pipeline.unet).items()}
    vae = {f"first_stage_model.{name}": tensor for name, tensor in ldm_vae(pipeline.vae.state_dict()).items()}
    first, second = "conditioner.embedders.0.transformer.text_model", "conditioner.embedders.1.model"
    clip = {f"{first}.{name}": tensor for name, tensor in pipeline.text_encoder.state_dict().items()}
    other = {f"{second}.{name}": t for name, t in _open_clip(pipeline.text_encoder_2.state_dict()).items()}
    for part in ("tokenizer", "tokenizer_2"):
        getattr(pipeline, part).save_pretrained(folder / part)
    path = folder / "sd_xl.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in (unet | vae | clip | other).items()}, path)
    return path


def _ldm_unet(unet: Any) -> State:
    top = {
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
        "conv_in": "input_blocks.0.0",
        "conv_norm_out": "out.0",
        "conv_out": "out.2",
    }
    resnet = {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "time_emb_proj": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "conv_shortcut": "skip_connection",
    }
    row, found = unet.config.layers_per_block + 1, {}
    for name, tensor in unet.state_dict().items():
        module, _, last = name.rpartition(".")
        words = module.split(".")
        if module in top:
            found[f"{top[module]}.{last}"] = tensor
            continue
        if words[0] == "mid_block":
            at, kind, rest = "middle_block", words[1], words[3:]
            place = "1" if kind == "attentions" else str(2 * int(words[2]))
        else:
            down, block, kind, rest = words[0] == "down_blocks", int(words[1]), words[2], words[4:]
            number = row * block + int(words[3]) + down
            if kind.endswith("samplers"):
                number = row * block + (row if down else row - 1)
                has_attention = any(n.startswith(f"up_blocks.{block}.attentions") for n in unet.state_dict())
                rest, place = (["op"], "0") if down else (["conv"], "2" if has_attention else "1")
            else:
                place = "1" if kind == "attentions" else "0"
            at = f"{'input' if down else 'output'}_blocks.{number}"
        inside = resnet[".".join(rest)] if kind == "resnets" else ".".join(rest)
        found[f"{at}.{place}.{inside}.{last}"] = tensor
    return found


def _open_clip(state: State) -> State:
    found = {
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
        "ln_final.weight": state["text_model.final_layer_norm.weight"],
        "ln_final.bias": state["text_model.final_layer_norm.bias"],
        "text_projection": state["text_projection.weight"].T,
        "logit_scale": torch.ones(()),
    }
    names = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    names["self_attn.out_proj"] = "attn.out_proj"
    for n in range(len({name.split(".")[3] for name in state if name.startswith("text_model.encoder.layers.")})):
        own, theirs = f"text_model.encoder.layers.{n}", f"transformer.resblocks.{n}"
        for last in ("weight", "bias"):
            fused = [state[f"{own}.self_attn.{part}_proj.{last}"] for part in "qkv"]
            found[f"{theirs}.attn.in_proj_{last}"] = torch.cat(fused)
            found |= {f"{theirs}.{name}.{last}": state[f"{own}.{module}.{last}"] for module, name in names.items()}
    return found


def ldm_vae(state: State) -> State:
    """An autoencoder as the authors of latent diffusion write it."""
    blocks = len({name.split(".")[2] for name in state if name.startswith("encoder.down_blocks.")})
    found = {}
    for name, tensor in state.items():
        words = name.split(".")
        if len(words) > 3 and words[1] in ("down_blocks", "up_blocks"):
            side = "down" if words[1] == "down_blocks" else "up"
            number = int(words[2]) if side == "down" else blocks - 1 - int(words[2])
            kind = {"resnets": ["block", words[4]], "downsamplers": ["downsample"]}.get(words[3], ["upsample"])
            words = [words[0], side, str(number), *kind, *words[5:]]
        elif "mid_block" in words:
            own = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}
            if words[2] == "resnets":
                words = [words[0], "mid", f"block_{int(words[3]) + 1}", *words[4:]]
            else:
                words = [words[0], "mid", "attn_1", own[words[4]], words[-1]]
                tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
        named = ".".join(words).replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        found[named] = tensor.contiguous()
    return found
