"""Run by torch's launcher in each of two processes: what `World` and `sharding` do is shown, or an assertion fails."""

import os
import sys
from types import SimpleNamespace
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM

from trainyard.trainer.processes import World
from trainyard.trainer.text import sharding

ROWS, STEPS, RATE = 8, 3, 1e-2


def main(model: str, method: str) -> None:
    torch.set_num_threads(1)
    claim = SimpleNamespace(launched=True, rank=int(os.environ["RANK"]), size=int(os.environ["WORLD_SIZE"]))
    world = World.join(claim, SimpleNamespace(devices=()))  # type: ignore[arg-type]
    speaks_with_one_voice(world)
    torch.manual_seed(0)
    data = [torch.randint(0, 200, (ROWS, 24)) for _ in range(STEPS)]
    alone = made(model, method)
    optimizer = trainer(alone)
    curve = trained(alone, alone, optimizer, data, slice(None), World.alone(world.device))
    for strategy in ("ddp", "fsdp"):
        settings = SimpleNamespace(strategy=strategy, precision="fp32")
        mine = made(model, method)
        forward = sharding.spread(mine, settings, world)  # type: ignore[arg-type]
        assert sharding.sharded(mine) == (strategy == "fsdp")
        assert all(isinstance(p, DTensor) == (strategy == "fsdp") for p in mine.parameters()), strategy
        own = trainer(mine)
        half = slice(world.rank * ROWS // 2, (world.rank + 1) * ROWS // 2)
        near(torch.tensor(trained(mine, forward, own, data, half, world)), torch.tensor(curve))
        goes_back_to_whole(world, mine, own, alone, optimizer)
        goes_on_from(world, own, trainer(spread_anew(model, method, settings, world)))
    world.leave()


def speaks_with_one_voice(world: World) -> None:
    assert world.any(world.first, False, True) == (True, False, True)
    assert world.share(["of the first", world.rank]) == ["of the first", 0]
    assert world.gather(world.rank) == ([0, 1] if world.first else [])
    assert world.total(torch.tensor([1.0, world.rank])).tolist() == [2.0, 1.0]


def made(model: str, method: str) -> Any:
    found = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    torch.manual_seed(1)
    if method == "full":
        return found.train()
    lora = LoraConfig(
        r=4, target_modules="all-linear", lora_dropout=0.0, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    return get_peft_model(found, lora).train()


def spread_anew(model: str, method: str, settings: Any, world: World) -> Any:
    anew = made(model, method)
    sharding.spread(anew, settings, world)
    return anew


def trainer(model: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, fused=True)


def trained(model: Any, forward: Any, optimizer: Any, data: Any, rows: slice, world: World) -> list[float]:
    """Two micro batches a step; the loss is a mean over the tokens of all processes, of which torch takes the mean."""
    curve = []
    for batch in data:
        parts, value = batch[rows].chunk(2), torch.zeros(())
        for number, part in enumerate(parts, 1):
            with sharding.exchanged(forward, last=number == len(parts)):
                logits = forward(input_ids=part, use_cache=False).logits[:, :-1]
                summed = torch.nn.functional.cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum")
                loss = summed / (ROWS * 23)
                (loss * world.size).backward()
            value += loss.detach()
        curve.append(world.total(value).item())
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 0.5)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return curve


def goes_back_to_whole(world: World, mine: Any, own: Any, alone: Any, optimizer: Any) -> None:
    state, moments = sharding.whole_state(mine, world), sharding.whole_optimizer(own, world)["state"]
    if not world.first:
        assert state == {} and moments[0]["exp_avg"] is None
        return
    expected = alone.state_dict()
    assert state.keys() == expected.keys()
    for name, value in expected.items():
        near(state[name], value)
    for index, values in optimizer.state_dict()["state"].items():
        near(moments[index]["exp_avg_sq"], values["exp_avg_sq"])


def goes_on_from(world: World, own: Any, again: Any) -> None:
    sharding.spread_optimizer(again, world.share(sharding.whole_optimizer(own, world)))
    for one, other in zip(own.state.values(), again.state.values(), strict=True):
        for name, value in one.items():
            assert torch.equal(local(value), local(other[name])), name


def local(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


if __name__ == "__main__":
    main(*sys.argv[1:])
