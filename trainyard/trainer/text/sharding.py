"""Several processes over one model: a copy in each (DDP), or a share in each (FSDP2); and back to whole tensors.

Sharding is torch's `fully_shard`, layer by layer, also on the CPU, where accelerate's FSDP would silently be DDP.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from trainyard.trainer.processes import World
from trainyard.trainer.text.settings import Settings


def spread(model: Any, settings: Settings, world: World, half: torch.dtype | None = None) -> Any:
    """Put the model in its place; what the loop calls for the forward pass: the model, or its DDP wrapper.

    Sharding changes the model in place: each parameter becomes a `DTensor`; an optimizer is made only afterwards.
    """
    if world.size > 1 and settings.strategy == "fsdp":
        return _shard(model, half, world)
    model.to(world.device)
    if world.size == 1:
        return model
    ids = None if world.device.type == "cpu" else [world.device.index]
    return DistributedDataParallel(model, device_ids=ids, gradient_as_bucket_view=True, broadcast_buffers=False)


def exchanged(forward: Any, last: bool) -> AbstractContextManager[None]:
    """Around a micro batch: with DDP gradients are exchanged at the `last` one only; shards are summed at each."""
    return forward.no_sync() if isinstance(forward, DistributedDataParallel) and not last else nullcontext()


def sharded(model: nn.Module) -> bool:
    """Whether the parameters are shares: looked at, not remembered."""
    return any(isinstance(p, DTensor) for p in model.parameters())


def held(model: nn.Module, world: World) -> str:
    """For people: how the processes hold the model, by a look at its parameters."""
    parameters = list(model.parameters())
    shares = sum(isinstance(p, DTensor) for p in parameters)
    if not shares:
        return f"each of the {world.size} processes holds a copy of the model (DDP)"
    return f"the {world.size} processes hold {shares} of the {len(parameters)} parameters in shares (FSDP)"


def whole(tensor: torch.Tensor, world: World) -> torch.Tensor | None:
    """The whole of a tensor, on the CPU of the first process; every process must ask. None in the others."""
    found = (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach()
    return found.to("cpu", copy=True) if world.first else None


def whole_state(model: nn.Module, world: World, trained: bool = False) -> dict[str, torch.Tensor]:
    """The state dict in whole tensors, in the first process; empty in the others. `trained`: only what is trained."""
    learns = {name for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    found = {k: whole(v, world) for k, v in model.state_dict().items() if not trained or k in learns}
    return {k: v for k, v in found.items() if v is not None}


def whole_optimizer(optimizer: torch.optim.Optimizer, world: World) -> dict[str, Any]:
    """The optimizer's state dict as one process would have it, in the first process; without tensors in the others."""
    state = optimizer.state_dict()
    state["state"] = {
        index: {k: whole(v, world) if isinstance(v, torch.Tensor) else v for k, v in values.items()}
        for index, values in state["state"].items()
    }
    return state


def spread_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load what `whole_optimizer`, or one process, saved: each share goes to the parameter that it belongs to."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for index, values in state["state"].items():
        parameter = parameters[index]
        if not isinstance(parameter, DTensor):
            continue
        for key, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape and value.ndim:
                moved = value.to(parameter.device)
                values[key] = distribute_tensor(moved, parameter.device_mesh, parameter.placements, src_data_rank=None)
    optimizer.load_state_dict(state)


def _shard(model: Any, half: torch.dtype | None, world: World) -> Any:
    mesh = init_device_mesh(world.device.type, (world.size,))
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32)
    for layer in _layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    return model


def _layers(model: nn.Module) -> Sequence[nn.Module]:
    """The blocks that the model's authors say must stay in one piece: its decoder layers."""
    names = next((set(m._no_split_modules) for m in model.modules() if getattr(m, "_no_split_modules", None)), set())
    return [m for m in model.modules() if type(m).__name__ in names]
