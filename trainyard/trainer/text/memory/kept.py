"""What a forward pass keeps for the backward one, counted on tensors that have a shape and no content."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from attrs import define, field, frozen
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._pytree import tree_leaves
from transformers import AttentionInterface

from trainyard.trainer.fake import quiet

_ROWS = 2
_PLAIN = "trainyard_plain"
#: Where tracing fails: hidden widths that a layer keeps a token, beside its inner width.
_USUAL_WIDTHS = 10


@frozen
class Kept:
    """Bytes of one row: outside the layers, in one layer, and at the border between two; `layers` is their number."""

    outside: int
    layer: int
    border: int
    layers: int
    #: Counted on the model itself; else guessed from its configuration.
    traced: bool

    def activations(self, rows: int, checkpointing: bool) -> int:
        """Kept for `rows` rows at the end of the forward pass, and what the first layer on the way back adds."""
        if checkpointing:
            return rows * (self.outside + self.layers * self.border + 2 * self.layer)
        return rows * (self.outside + self.layers * self.layer)


def kept(model: Any, length: int, half: torch.dtype | None) -> Kept:
    """What rows of `length` tokens keep under autocast to `half`.

    `model` may hold real weights or lie on meta; it is left as it was, nothing is computed, no generator moves.
    Only its first layer is run: the others are taken to be like it.
    """
    found = _layers(model)
    try:
        with _shallow(*found) if found else nullcontext() as layer, _dense(model), quiet():
            return _traced(model, layer, len(found[2]) if found else 0, length, half)
    except Exception as e:
        logging.getLogger("trainyard.trainer").debug("the model can't be traced: %s", e)
        return _guessed(model.config.get_text_config(), length, half)


def _layers(model: Any) -> tuple[nn.Module, str, nn.ModuleList] | None:
    """Where the stack of layers hangs."""
    depth = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == depth:
                return module, name, child
    return None


@contextmanager
def _shallow(owner: nn.Module, name: str, layers: nn.ModuleList) -> Iterator[nn.Module]:
    """With the first of the layers alone."""
    setattr(owner, name, nn.ModuleList([layers[0]]))
    try:
        yield layers[0]
    finally:
        setattr(owner, name, layers)


@contextmanager
def _dense(model: nn.Module) -> Iterator[None]:
    """With plain linear layers in place of quantised ones: those keep nothing either, and take no fake weights."""
    swapped = [
        (owner, name, child)
        for owner in model.modules()
        for name, child in owner.named_children()
        if isinstance(child, nn.Linear) and not child.weight.is_floating_point()
    ]
    for owner, name, child in swapped:
        plain = nn.Linear(child.in_features, child.out_features, child.bias is not None, device="meta")
        setattr(owner, name, plain.requires_grad_(False))
    try:
        yield
    finally:
        for owner, name, child in swapped:
            setattr(owner, name, child)


@contextmanager
def _for_training(model: Any) -> Iterator[None]:
    """In training mode; without gradient checkpointing, which would hide what a layer keeps; with plain attention."""
    training = model.training
    recomputed = [m for m in model.modules() if getattr(m, "gradient_checkpointing", False) is True]
    config = model.config.get_text_config()
    attention = config._attn_implementation
    if attention != "eager":
        AttentionInterface.register(_PLAIN, _attend)
        config._attn_implementation_internal = _PLAIN
    for module in recomputed:
        module.gradient_checkpointing = False
    model.train()
    try:
        yield
    finally:
        model.train(training)
        config._attn_implementation_internal = attention
        for module in recomputed:
            module.gradient_checkpointing = True


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention as fused kernels do it: without the mask that transformers makes where tensors are fake."""
    grouped = query.shape[1] != key.shape[1]
    found = scaled_dot_product_attention(
        query, key, value, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
    )
    return found.transpose(1, 2).contiguous(), None


@define
class _Ledger:
    """What autograd packed away, each piece of memory once, and whether it was the layer's."""

    own: set[int] = field(factory=set)
    border: int = 0
    inside: bool = False
    _shared: dict[int, torch.UntypedStorage] = field(factory=dict)
    _seen: dict[int, tuple[torch.UntypedStorage, bool]] = field(factory=dict)

    def enter(self, _layer: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        """A layer begins; what is handed to every layer, as the positions are, is kept once for all of them."""
        self.inside = True
        hidden = given[0] if given else named["hidden_states"]
        self.border = hidden.numel() * hidden.element_size()
        for tensor in tree_leaves([value for name, value in named.items() if name != "hidden_states"]):
            if isinstance(tensor, torch.Tensor):
                self._shared[tensor.untyped_storage()._cdata] = tensor.untyped_storage()

    def leave(self, *_: Any) -> None:
        """The layer has ended."""
        self.inside = False

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor is kept for the backward pass."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.own:
            self._seen.setdefault(key, (storage, self.inside and key not in self._shared))
        return tensor

    def bytes(self, inside: bool) -> int:
        """Of one row, in the layer or outside of it."""
        return sum(storage.nbytes() for storage, where in self._seen.values() if where == inside) // _ROWS


def _traced(model: Any, layer: nn.Module | None, depth: int, length: int, half: torch.dtype | None) -> Kept:
    """By a forward pass over fake tensors."""
    ledger = _Ledger()
    hooks = []
    if layer is not None:
        hooks = [layer.register_forward_pre_hook(ledger.enter, with_kwargs=True)]
        hooks += [layer.register_forward_hook(ledger.leave)]
        # To a frozen base the layers behind the first one hand on a gradient, so that they keep more than it would.
        hooks += [model.get_input_embeddings().register_forward_hook(lambda _layer, _given, out: out.requires_grad_())]
    try:
        with _for_training(model), FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"):
            shapes = _shapes(model)
            ledger.own = {tensor.untyped_storage()._cdata for tensor in shapes.values()}
            given = {"input_ids": torch.zeros((_ROWS, length), dtype=torch.long), "use_cache": False}
            with (
                saved_tensors_hooks(ledger.pack, lambda tensor: tensor),
                torch.autocast("cpu", half, enabled=half is not None),
            ):
                functional_call(model, shapes, kwargs=given, tie_weights=False)
    finally:
        for hook in hooks:
            hook.remove()
    return Kept(ledger.bytes(False), ledger.bytes(True), ledger.border // _ROWS, depth, traced=True)


def _shapes(model: Any) -> dict[str, torch.Tensor]:
    """An empty tensor for each parameter and buffer, to stand in for it.

    Each module by one name: what stands in twice for one is not all taken out again (a prompt adapter of peft holds
    the embeddings beside the base). Tied weights are two modules.
    """
    modules = dict(model.named_modules())
    parameters = {f"{at}.{n}".lstrip("."): p for at, m in modules.items() for n, p in m.named_parameters(recurse=False)}
    buffers = {f"{at}.{n}".lstrip("."): b for at, m in modules.items() for n, b in m.named_buffers(recurse=False)}
    shapes = {n: torch.empty(p.shape, dtype=p.dtype).requires_grad_(p.requires_grad) for n, p in parameters.items()}
    return shapes | {n: torch.empty(b.shape, dtype=b.dtype) for n, b in buffers.items()}


def _guessed(config: Any, length: int, half: torch.dtype | None) -> Kept:
    """By the usual shape of a transformer: some widths of the hidden state, and four of the inner one."""
    size = half.itemsize if half else 4
    hidden = int(config.hidden_size)
    inner = 4 * hidden
    for name in ("n_inner", "intermediate_size", "ffn_dim"):
        with suppress(AttributeError):
            inner = int(getattr(config, name) or inner)
    experts = int(getattr(config, "num_experts_per_tok", None) or 1)
    if experts > 1:
        inner = experts * int(getattr(config, "moe_intermediate_size", None) or inner)
    layer = length * size * (_USUAL_WIDTHS * hidden + 4 * inner + (2 * (experts - 1)) * hidden)
    return Kept(length * 8 * hidden, layer, length * 4 * hidden, int(config.num_hidden_layers), traced=False)
