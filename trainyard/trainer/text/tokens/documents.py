"""Rows packed into one sequence stay apart: how attention is kept within each, and the proof that nothing crosses."""

from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.utils import is_flash_attn_2_available

from trainyard.trainer.failures import ConfigError
from trainyard.trainer.text import model as models

_BY_ROW = "trainyard_by_row"
_PROBED = 12


def keep_apart(model: Any, device: torch.device, half: torch.dtype | None) -> None:
    """Make the model ready for packed rows. Raises `ConfigError` for one in which a row would see another.

    On a CPU attention goes through the rows one by one: its cost is that of the rows, not of the sequence squared, and
    no mask is made. On a GPU flash attention does the same where it is installed; all else gets transformers' mask.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    present = base.config._attn_implementation
    wanted = present
    if device.type == "cpu" and present == "sdpa":
        AttentionInterface.register(_BY_ROW, _attend_by_row)
        wanted = _BY_ROW
    elif device.type == "cuda" and half is not None and present == "sdpa" and is_flash_attn_2_available():
        wanted = "flash_attention_2"
    if wanted != present:
        base.set_attn_implementation(wanted)
    if not _apart(model, device, half) and wanted != present:
        base.set_attn_implementation(present)
        wanted = present
    if wanted == present and not _apart(model, device, half):
        raise ConfigError(
            f"tuning_parameters.packing: a {base.config.model_type} model as it is trained here would let packed rows "
            "see each other; leave packing out"
        )


def _attend_by_row(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention [batch, heads, tokens, width] within each row, as transformers calls it."""
    unknown = [name for name in ("softcap", "position_bias", "s_aux") if more.get(name) is not None]
    if unknown:
        raise ValueError(f"attention by row has no {', '.join(unknown)}")
    tokens = query.shape[2]
    ends = [0, tokens] if cu_seq_lens_q is None else cu_seq_lens_q.tolist()
    lengths = [end - start for start, end in pairwise(ends)]
    grouped = query.shape[1] != key.shape[1]
    outputs = []
    for q, k, v in zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True):
        near = _window(q.shape[2], sliding_window, q.device)
        outputs.append(
            scaled_dot_product_attention(
                q, k, v, attn_mask=near, dropout_p=dropout, is_causal=near is None, scale=scaling, enable_gqa=grouped
            )
        )
    return torch.cat(outputs, 2).transpose(1, 2).contiguous(), None


def _window(tokens: int, width: int | None, device: torch.device) -> torch.Tensor | None:
    """What a token sees where it does not see all that came before."""
    if width is None or tokens <= width:
        return None
    at = torch.arange(tokens, device=device)
    back = at[:, None] - at[None]
    return (back >= 0) & (back < width)


def _apart(model: Any, device: torch.device, half: torch.dtype | None) -> bool:
    """Whether a second row's logits are those of the row alone, and the same after two different first rows."""
    known = models.vocabulary(model)
    one, other, second = (torch.arange(n, n + _PROBED, device=device)[None] % known for n in (1, 7, 20))
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, half, enabled=half is not None):
            after_one, after_other = (_last(model, torch.cat([first, second], 1)) for first in (one, other))
            alone = model(input_ids=second, use_cache=False).logits[0].float()
    except (ValueError, TypeError, RuntimeError):
        return False
    finally:
        model.train(was_training)
    near = 1e-4 if half is None and alone.dtype == torch.float32 else 5e-2
    same = torch.equal(after_one, after_other)
    return same and bool((after_one - alone).abs().max() <= near * alone.abs().max())


def _last(model: Any, ids: torch.Tensor) -> torch.Tensor:
    length = ids.shape[1] // 2
    positions = torch.arange(length, device=ids.device).repeat(2)[None]
    ends = torch.tensor([0, length, 2 * length], dtype=torch.int32, device=ids.device)
    logits = model(
        input_ids=ids,
        position_ids=positions,
        cu_seq_lens_q=ends,
        cu_seq_lens_k=ends,
        max_length_q=length,
        max_length_k=length,
        use_cache=False,
    ).logits
    return logits[0, length:].float()
