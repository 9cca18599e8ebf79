"""Parts of a model out of a single file that comes without a configuration: widths follow from the tensors."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from attrs import frozen
from safetensors import safe_open

from trainyard.trainer.diffusion.families.parts import bfl, ldm_unet, ldm_vae, open_clip, pixart
from trainyard.trainer.failures import ModelError
from trainyard.trainer.tensors import Tensor, damage, tensors_of

#: CLIP has 64 numbers a head; in a file with all of SDXL its names begin so.
_CLIP_HEAD = 64
_IN_SDXL = "conditioner.embedders.0.transformer."

Renamed = Iterator[tuple[str, torch.Tensor]]


@frozen
class _Reader:
    """How one class is read."""

    #: The model without weights, for the tensors of a file and what the family says besides.
    blank: Callable[[Any, Mapping[str, Tensor], Mapping[str, Any]], Any]
    #: A tensor of the file by the names of the model; the file's other tensors may tell how.
    renamed: Callable[[str, torch.Tensor, Mapping[str, Tensor]], Renamed]


def load(kind: Any, path: Path, dtype: torch.dtype, told: Mapping[str, Any]) -> Any:
    """A module of class `kind` on the CPU; `told` is what no tensor says. Raises `ModelError`."""
    module = blank(kind, path, told)
    try:
        state = _state(_READERS[kind.__name__], path, dtype, tensors_of(path))
    except KeyError as e:
        raise _other(path, kind, e) from e
    return torch.nn.Module.to(_filled(module, state, path, kind), dtype)


def blank(kind: Any, path: Path, told: Mapping[str, Any]) -> Any:
    """The same without what is in the tensors: all parameters lie on meta. Raises `ModelError`."""
    reader = _READERS.get(kind.__name__)
    if reader is None:
        raise ModelError(f"{path}: a {kind.__name__} is not read from a single file in this version; give a folder")
    if path.suffix not in (".safetensors", ".sft"):
        raise ModelError(f"{path}: a .safetensors or .sft file would be right")
    problem = damage(path)
    if problem is not None:
        raise ModelError(f"{path} {problem}")
    from accelerate import init_empty_weights

    try:
        with init_empty_weights():
            return reader.blank(kind, tensors_of(path), told)
    except KeyError as e:
        raise _other(path, kind, e) from e


def _other(path: Path, kind: Any, lacking: KeyError) -> ModelError:
    return ModelError(f"{path}: is no {kind.__name__}: {lacking.args[0]} is not as expected in it")


def _state(reader: _Reader, path: Path, dtype: torch.dtype, tensors: Mapping[str, Tensor]) -> dict[str, torch.Tensor]:
    """The tensors by the module's names, one after the other, so that a file is never held twice."""
    found: dict[str, torch.Tensor] = {}
    with safe_open(path, "pt") as file:
        for name in file.keys():  # noqa: SIM118 - no mapping
            for own, tensor in reader.renamed(name, file.get_tensor(name), tensors):
                found[own] = tensor.to(dtype) if tensor.is_floating_point() else tensor
    return found


def _filled(module: Any, state: dict[str, torch.Tensor], path: Path, kind: Any) -> Any:
    _, odd = module.load_state_dict({n: t.contiguous() for n, t in state.items()}, strict=False, assign=True)
    if hasattr(module, "tie_weights"):
        module.tie_weights()
    blank = [name for name, p in module.named_parameters() if p.is_meta]
    if blank or odd:
        what = f"lacks {blank[0]}" if blank else f"has {odd[0]}, which it can't take"
        raise ModelError(f"{path}: is no {kind.__name__}: it {what} ({len(blank)} tensors are lacking, {len(odd)} odd)")
    return module


def _flux(kind: Any, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Any:
    return kind(**bfl.config(tensors))


def _pixart(kind: Any, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Any:
    return kind(**pixart.config(tensors, told))


def _t5(kind: Any, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Any:
    """T5 v1.1, whose feed-forward layers are gated."""
    from transformers import T5Config

    heads = tensors["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"].shape[1]
    words, width = tensors["shared.weight"].shape
    return kind(
        T5Config(
            vocab_size=words,
            d_model=width,
            d_kv=tensors["encoder.block.0.layer.0.SelfAttention.q.weight"].shape[0] // heads,
            d_ff=tensors["encoder.block.0.layer.1.DenseReluDense.wi_0.weight"].shape[0],
            num_layers=_count(tensors, "encoder.block."),
            num_heads=heads,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
        )
    )


def _of_t5(name: str, tensor: torch.Tensor, _: Mapping[str, Tensor]) -> Renamed:
    if name.startswith(("shared.", "encoder.")) and name != "encoder.embed_tokens.weight":
        yield name, tensor


def _clip(kind: Any, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Any:
    from transformers import CLIPTextConfig

    own = {_clip_name(name): tensor for name, tensor in tensors.items()}
    words, width = own["embeddings.token_embedding.weight"].shape
    return kind(
        CLIPTextConfig(
            vocab_size=words,
            hidden_size=width,
            intermediate_size=own["encoder.layers.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=_count(own, "encoder.layers."),
            num_attention_heads=width // _CLIP_HEAD,
            max_position_embeddings=own["embeddings.position_embedding.weight"].shape[0],
            hidden_act="quick_gelu",
            projection_dim=width,
            bos_token_id=words - 2,
            eos_token_id=words - 1,
        )
    )


def _of_clip(name: str, tensor: torch.Tensor, tensors: Mapping[str, Tensor]) -> Renamed:
    """transformers calls its modules without `text_model.` since 5.6; the projection is of no use here."""
    if any(other.startswith(_IN_SDXL) for other in tensors) and not name.startswith(_IN_SDXL):
        return
    if not name.endswith(("position_ids", "logit_scale")) and not name.startswith("text_projection"):
        yield _clip_name(name), tensor


def _clip_name(name: str) -> str:
    return name.removeprefix(_IN_SDXL).removeprefix("text_model.")


def _second_clip(kind: Any, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Any:
    from transformers import CLIPTextConfig

    return kind(CLIPTextConfig(**open_clip.config(tensors)))


def _unet(kind: Any, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Any:
    return kind(**ldm_unet.config(tensors))


def _vae(kind: Any, tensors: Mapping[str, Tensor], told: Mapping[str, Any]) -> Any:
    return kind(**ldm_vae.config(tensors, told))


def _count(tensors: Mapping[str, Any], start: str) -> int:
    return len({name.removeprefix(start).split(".")[0] for name in tensors if name.startswith(start)})


_READERS = {
    "UNet2DConditionModel": _Reader(_unet, ldm_unet.renamed),
    "CLIPTextModelWithProjection": _Reader(_second_clip, open_clip.renamed),
    "AutoencoderKL": _Reader(_vae, ldm_vae.renamed),
    "FluxTransformer2DModel": _Reader(_flux, bfl.renamed),
    "PixArtTransformer2DModel": _Reader(_pixart, pixart.renamed),
    "T5EncoderModel": _Reader(_t5, _of_t5),
    "CLIPTextModel": _Reader(_clip, _of_clip),
}
