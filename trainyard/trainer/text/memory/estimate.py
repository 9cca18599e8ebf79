"""How much memory a training needs, by part, before it begins; how many rows fit; how much it came to need."""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from attrs import asdict, frozen
from torch import nn
from transformers.pytorch_utils import Conv1D

from trainyard.trainer.text.memory.kept import kept
from trainyard.trainer.text.memory.room import available, mapped, peak, resident
from trainyard.trainer.text.model.precision import computed_in
from trainyard.trainer.text.settings import Settings

__all__ = ["Estimate", "Fit", "Needs", "available", "estimate", "fit", "half", "peak", "resident", "too_large"]

DeviceKind = Literal["cpu", "cuda"]
_ROWS_AT_MOST: dict[str, int] = {"cuda": 8, "cpu": 4}
#: What is left free: the allocator's rounding and gaps, and the estimate's own error.
_USABLE = 0.9
#: A logit as `loss.py` holds it: in the precision of the pass, twice where only some are learned.
_LOGIT_BYTES = {torch.bfloat16: 4, None: 8}
#: Where torch's own cross entropy is used: with its log-softmax and the gradient of it, both in fp32.
_LOGIT_BYTES_BY_TORCH = 12
#: What the allocator holds in gaps, as a share of what comes and goes in a step: glibc's was measured at 0.3 to 1.1.
_GAPS = {"cpu": 0.65, "cuda": 0.0}
#: Threads, their heaps and the kernels' workspace, which come with the first backward pass.
_WORKSPACE = {"cpu": 64 << 20, "cuda": 96 << 20}
#: Weights for which it pays to ask the system where they lie, which takes some 20 ms.
_NOTABLE = 64 << 20
_BLOCK_8BIT, _SMALLEST_8BIT = 256, 4096
_BLOCK_4BIT, _BLOCK_DOUBLE = 64, 256


@frozen(kw_only=True)
class Estimate:
    """Bytes of one process at its peak, by part, and the rows that it takes at once."""

    micro_batch_size: int
    weights: int
    trainable: int
    #: What a preference objective compares with: a second copy of what is trained, on its base or whole.
    reference: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    allocator: int
    overhead: int

    @property
    def parts(self) -> dict[str, int]:
        """The parts by name."""
        return {name: value for name, value in asdict(self).items() if name != "micro_batch_size"}

    @property
    def bytes(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {"estimate_bytes": self.bytes, "micro_batch_size": self.micro_batch_size, "parts": self.parts}

    def against(self, peak: int) -> dict[str, Any]:
        """For the manifest: the estimate, the measured peak, and the error as a share of the peak."""
        return {"estimate_bytes": self.bytes, "peak_bytes": peak, "error": round(self.bytes / peak - 1, 4)}


@frozen
class Fit:
    """The rows that fit at once, what they need, and what to say where not even one row fits."""

    estimate: Estimate
    warning: str | None

    @property
    def micro(self) -> int:
        """Rows that a device takes at once."""
        return self.estimate.micro_batch_size


class Needs:
    """What a model needs under these settings; traced once, then asked for any number of rows.

    `model` may hold real weights or lie on meta (`blank.py`); of a quantised base it must lie on meta. `longest` is the
    length of the longest row in tokens, `learned` the most that any row learns (None: all of it). `overhead` is what
    the process holds besides (None: on the CPU what it holds now, apart from the weights).
    """

    def __init__(
        self,
        model: Any,
        settings: Settings,
        longest: int,
        *,
        device_kind: DeviceKind,
        learned: int | None = None,
        overhead: int | None = None,
    ) -> None:
        self._settings, self._device_kind = settings, device_kind
        self._shards = settings.processes if settings.strategy == "fsdp" else 1
        trained = [p for p in model.parameters() if p.requires_grad]
        self._frozen = sum(_frozen_bytes(model, settings))
        self._trainable = sum(p.numel() * p.element_size() for p in trained)
        self._reference = _reference_bytes(model, settings)
        self._states = sum(_state_bytes(p, settings.optimizer) for p in trained)
        self.kept = kept(model, longest, half(settings, device_kind))
        self._logits = min(learned or longest, longest) * _vocabulary(model) * _logit_bytes(settings, device_kind)
        held = _held(model, device_kind) if overhead is None else overhead
        self._overhead = held + _WORKSPACE[device_kind]

    def rows(self, micro: int) -> Estimate:
        """With `micro` rows at once."""
        rows = 2 * micro if self._settings.objective == "dpo" else micro
        gathered = 0
        if self._shards > 1 and self.kept.layers:
            gathered = 2 * (self._frozen + self._trainable) // self.kept.layers
        activations = self.kept.activations(rows, self._settings.gradient_checkpointing)
        logits = rows * self._logits
        return Estimate(
            micro_batch_size=micro,
            weights=self._frozen // self._shards + gathered,
            trainable=self._trainable // self._shards,
            reference=self._reference,
            gradients=self._trainable // self._shards,
            optimizer=self._states // self._shards,
            activations=activations,
            logits=logits,
            allocator=round(_GAPS[self._device_kind] * (activations + logits)),
            overhead=self._overhead,
        )


def estimate(model: Any, settings: Settings, longest: int, micro: int, **more: Any) -> Estimate:
    """What a process needs with `micro` rows at once; `more` as for `Needs`."""
    return Needs(model, settings, longest, **more).rows(micro)


def fit(needs: Needs, settings: Settings, there: int, device_kind: DeviceKind) -> Fit:
    """The most rows at once that `there` bytes can take, and the step's rows shared out evenly over its parts."""
    most = min(settings.share, _ROWS_AT_MOST[device_kind])
    for micro in range(most, 0, -1):
        found = needs.rows(micro)
        if found.bytes <= there * _USABLE:
            parts = -(-settings.share // micro)
            return Fit(needs.rows(-(-settings.share // parts)), None)
    found = needs.rows(1)
    return Fit(found, too_large(found, there))


def too_large(found: Estimate, there: int) -> str | None:
    """What to say where the estimate is over what is there; None where it fits."""
    if found.bytes <= there:
        return None
    largest = max(found.parts, key=lambda name: found.parts[name])
    return (
        f"the estimate is {_gib(found.bytes)} with {found.micro_batch_size} rows at once, and {_gib(there)} "
        f"are there: it will hardly fit (most of it: {largest}, {_gib(found.parts[largest])})"
    )


def half(settings: Settings, device_kind: DeviceKind = "cpu") -> torch.dtype | None:
    """The precision that the forward pass is cast to; None where it stays in fp32."""
    seen = device_kind == "cuda" and torch.cuda.is_available()
    return computed_in(settings, torch.device("cuda" if seen else "cpu"))


def _held(model: Any, device_kind: DeviceKind) -> int:
    """What the process holds besides the model's weights, which may be mapped from their files and not yet read."""
    if device_kind != "cpu":
        return 0
    weights = sum(p.numel() * p.element_size() for p in model.parameters() if p.device.type == "cpu")
    if weights < _NOTABLE:
        return max(0, resident() - weights)
    size, read = mapped(".safetensors")
    return max(0, resident() - read - max(0, weights - size))


def _vocabulary(model: Any) -> int:
    return int(model.config.get_text_config().vocab_size)


def _logit_bytes(settings: Settings, device_kind: DeviceKind) -> int:
    by_ours = settings.objective == "sft"
    return _LOGIT_BYTES.get(half(settings, device_kind), _LOGIT_BYTES_BY_TORCH) if by_ours else _LOGIT_BYTES_BY_TORCH


def _frozen_bytes(model: Any, settings: Settings) -> Iterator[int]:
    """Bytes of each frozen parameter as it is held in training: a quantised one may be here, or is to be."""
    planned = set(_quantised(model, settings))
    each = _bytes_each(settings)
    for parameter in model.parameters():
        if parameter.requires_grad:
            continue
        if parameter.is_floating_point():
            size = each if id(parameter) in planned else parameter.element_size()
        else:  # two weights a byte, or one
            size = 2 * each if settings.method == "qlora" else each
        yield round(parameter.numel() * size)


def _quantised(model: Any, settings: Settings) -> Iterator[int]:
    """Which parameters are to be 4 or 8 bits wide: the weights of linear layers, but not those of the head."""
    if settings.method != "qlora" and settings.precision != "int8":
        return
    head = model.get_output_embeddings()
    whole = {id(p) for p in head.parameters()} if head is not None else set()
    for module in model.modules():
        if (
            isinstance(module, nn.Linear | Conv1D)
            and id(module.weight) not in whole
            and module.weight.is_floating_point()
        ):
            yield id(module.weight)


def _bytes_each(settings: Settings) -> float:
    if settings.method != "qlora":
        return 1.0
    scales = (1 + 4 / _BLOCK_DOUBLE) if settings.double_quant else 4.0
    return 0.5 + scales / _BLOCK_4BIT


def _reference_bytes(model: Any, settings: Settings) -> int:
    """The reference of a whole model is a copy of it, that of an adapter gone on with a copy of the adapter.

    A fresh adapter changes nothing yet: there it is the base with the adapter switched off.
    """
    if settings.objective == "sft" or (settings.adapts and settings.method != "adapter"):
        return 0
    copied = [p for p in model.parameters() if p.requires_grad or not settings.adapts]
    return sum(p.numel() * p.element_size() for p in copied)


def _state_bytes(parameter: torch.Tensor, optimizer: str) -> int:
    count = parameter.numel()
    if optimizer == "adafactor":
        factored = parameter.ndim > 1
        return 4 * (count // parameter.shape[-1] + count // parameter.shape[-2] if factored else count)
    if optimizer.endswith("8bit") and count >= _SMALLEST_8BIT:
        return 2 * count + 8 * count // _BLOCK_8BIT
    return 2 * count * parameter.element_size()


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB"
