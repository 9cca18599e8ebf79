"""What a forward and a backward pass hold at once, counted on tensors that have a shape and no content."""

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from attrs import define, field, frozen
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainyard.trainer.diffusion.families.family import Shown
from trainyard.trainer.fake import quiet

#: Blocks that are run all.
_FEW = 4


def traced(forward: torch.nn.Module, shown: Callable[[], Shown], computed: torch.dtype | None) -> int:
    """Bytes at the peak of a micro batch beside weights and gradients, under autocast to `computed`.

    `forward` says what the model says of what `shown` makes; it may lie on meta, and is left as it was. Nothing is
    computed, no generator moves. Attention is counted as kernels do it that keep no scores. Of a deep model one block
    of each kind is run, and one kind after the other with two: every further one adds as much as the second.
    """
    kinds = _stacks(forward)
    if sum(len(stack.blocks) for kind in kinds for stack in kind) <= _FEW:
        return _peak(forward, shown, computed)
    with _cut(kinds):
        least = found = _peak(forward, shown, computed)
        for kind in kinds:
            deeper = sum(min(len(stack.blocks), 2) - 1 for stack in kind)
            if deeper:
                with _cut([kind], 2):
                    more = _peak(forward, shown, computed) - least
                found += more * sum(len(stack.blocks) - 1 for stack in kind) // deeper
    return found


def _peak(forward: torch.nn.Module, shown: Callable[[], Shown], computed: torch.dtype | None) -> int:
    ledger, both = _Ledger(), _BothWays(forward, computed)
    with quiet(), FakeTensorMode(allow_non_fake_inputs=True), torch.device("cpu"):
        shapes = _shapes(both)
        given = shown()
        for leaf in shapes.values():
            if leaf.requires_grad:
                leaf.register_post_accumulate_grad_hook(_forget)
        with ledger:
            functional_call(both, shapes, (given,), tie_weights=False)
    return ledger.peak


@frozen
class _Stack:
    """Blocks that are alike, run one after the other, and where they hang."""

    owner: torch.nn.Module
    name: str
    blocks: torch.nn.ModuleList


def _stacks(forward: torch.nn.Module) -> list[list[_Stack]]:
    """The stacks of blocks that diffusers says a model repeats, those together whose blocks are alike."""
    said = ("_repeated_blocks", "_no_split_modules")
    repeated = set[str]()
    for module in forward.modules():
        repeated |= set(next((names for name in said if (names := getattr(module, name, None))), ()))
    found: dict[Any, list[_Stack]] = {}
    for owner in forward.modules():
        for name, child in owner.named_children():
            if isinstance(child, torch.nn.ModuleList) and {type(block).__name__ for block in child} & repeated:
                shapes = {tuple((n, p.shape) for n, p in block.named_parameters()) for block in child}
                if len(shapes) == 1:
                    found.setdefault(shapes.pop(), []).append(_Stack(owner, name, child))
    return list(found.values())


@contextmanager
def _cut(kinds: Sequence[Sequence[_Stack]], depth: int = 1) -> Iterator[None]:
    """With the first blocks of each stack alone."""
    stacks = [stack for kind in kinds for stack in kind]
    before = [getattr(stack.owner, stack.name) for stack in stacks]
    for stack in stacks:
        setattr(stack.owner, stack.name, torch.nn.ModuleList(list(stack.blocks)[:depth]))
    try:
        yield
    finally:
        for stack, blocks in zip(stacks, before, strict=True):
            setattr(stack.owner, stack.name, blocks)


class _BothWays(torch.nn.Module):
    """A step's forward and backward pass: what is computed again on the way back finds the same weights."""

    def __init__(self, inside: torch.nn.Module, computed: torch.dtype | None) -> None:
        super().__init__()
        self.inside, self._computed = inside, computed

    def forward(self, shown: Shown) -> None:
        """The gradients of a loss that is the mean of squares."""
        with torch.autocast("cpu", self._computed, enabled=self._computed is not None):
            said = self.inside(shown)
        said.float().square().mean().backward()


def _forget(leaf: torch.Tensor) -> None:
    """A gradient is counted elsewhere, once it is there."""
    leaf.grad = None


@define(slots=False)
class _Ledger(TorchDispatchMode):
    """What is held of what operations made, each piece of memory once; and the most that it was."""

    held: int = 0
    peak: int = 0
    _sizes: dict[int, int] = field(factory=dict)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        before = {_key(tensor) for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, torch.Tensor)}
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            if isinstance(tensor, torch.Tensor) and _key(tensor) not in before:
                self._hold(tensor.untyped_storage())
        self.peak = max(self.peak, self.held)
        return found

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.held += self._sizes[key]
        weakref.finalize(storage, self._release, key)

    def _release(self, key: int) -> None:
        self.held -= self._sizes.pop(key)


def _key(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _shapes(forward: torch.nn.Module) -> dict[str, torch.Tensor]:
    """An empty tensor for each parameter and buffer, to stand in for it."""
    named = [*forward.named_parameters(remove_duplicate=False), *forward.named_buffers(remove_duplicate=False)]
    own: dict[int, torch.Tensor] = {}
    for _, tensor in named:
        if id(tensor) not in own:
            own[id(tensor)] = torch.empty(tensor.shape, dtype=tensor.dtype).requires_grad_(tensor.requires_grad)
    return {name: own[id(tensor)] for name, tensor in named}
