"""Everything that a run needs to go on as if it had never been stopped."""

import base64
import platform
import random
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import define, field, frozen
from torch.serialization import get_crc32_options, set_crc32_options

from trainyard.trainer.processes import World
from trainyard.trainer.text.sharding import spread_optimizer

OPTIMIZER = "optimizer.pt"
_PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy", "trainyard")


@define
class Position:
    """Where the run stands: steps done, place in the data, what was gathered since the last report, what was best."""

    step: int = 0
    epoch: int = 0
    index: int = 0
    evaluated: int = -1
    #: Sequences that a device takes at once.
    micro: int = 1
    loss_sum: float = 0.0
    loss_steps: int = 0
    #: The step with the least held-out loss since the first one, and evaluations since then that were no better.
    best_step: int = 0
    best_loss: float | None = None
    no_better: int = 0
    #: The step whose model is the result, where that is not the last one.
    result_step: int | None = None
    metrics: dict[str, Any] = field(factory=dict)
    #: Each time that memory ran out: what was halved at which step.
    halved: list[dict[str, Any]] = field(factory=list)
    #: What was changed while the job went on, in this attempt and before: `{"step", "values"}`.
    changes: list[dict[str, Any]] = field(factory=list)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Position":
        """As a checkpoint's record tells it."""
        loader, gathered, progress = record["loader"], record["accumulation"], record["progress"]
        best = progress.get("best", {})
        return cls(
            step=record["step"],
            epoch=loader["epoch"],
            index=loader["index"],
            evaluated=progress["evaluated"],
            loss_sum=gathered["loss_sum"],
            loss_steps=gathered["loss_steps"],
            best_step=best.get("step", 0),
            best_loss=best.get("eval_loss"),
            no_better=best.get("since", 0),
            metrics=dict(progress["metrics"]),
            halved=list(gathered.get("halved", ())),
        )

    @property
    def best(self) -> dict[str, Any]:
        """As JSON."""
        return {"step": self.best_step, "eval_loss": self.best_loss, "since": self.no_better}

    def advance(self, batches: int, loss: float) -> None:
        """One step is done; `batches` make an epoch."""
        self.step += 1
        self.index += 1
        self.loss_sum += loss
        self.loss_steps += 1
        if self.index == batches:
            self.epoch, self.index = self.epoch + 1, 0

    def place(self, batches: int) -> None:
        """Stand in an epoch of so many batches: one that became shorter, by other data or settings, may be over."""
        if self.index >= batches:
            self.epoch, self.index = self.epoch + 1, 0

    def take_loss(self) -> float:
        """The mean loss since it was last taken."""
        mean = self.loss_sum / self.loss_steps
        self.loss_sum, self.loss_steps = 0.0, 0
        self.metrics["loss"] = mean
        return mean

    def note_evaluation(self, metrics: Mapping[str, float]) -> bool:
        """The held-out rows were evaluated at this step; whether it is the best so far. The first time is kept too."""
        self.evaluated = self.step
        self.metrics.setdefault("eval_loss_before", metrics["eval_loss"])
        self.metrics.update(metrics)
        if self.step == 0:
            return False
        better = self.best_loss is None or metrics["eval_loss"] < self.best_loss
        if better:
            self.best_step, self.best_loss, self.no_better = self.step, metrics["eval_loss"], 0
        else:
            self.no_better += 1
        return better


@frozen
class Generators:
    """The state of every generator of random numbers."""

    python: Any
    numpy: Any
    torch: torch.Tensor
    cuda: tuple[torch.Tensor, ...]

    @classmethod
    def now(cls) -> "Generators":
        """As they stand; cheap enough for every step."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ()
        return cls(random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state(), tuple(cuda))

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Generators":
        """As `plain` wrote them."""
        kind, values, gauss = record["python"]
        inner = record["numpy"]["state"]
        numpy = record["numpy"] | {"state": inner | {"key": np.array(inner["key"], np.uint32)}}
        cuda = tuple(_unpacked(s) for s in record["cuda"])
        return cls((kind, tuple(values), gauss), numpy, _unpacked(record["torch"]), cuda)

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        inner = self.numpy["state"]
        return {
            "python": self.python,
            "numpy": self.numpy | {"state": inner | {"key": inner["key"].tolist()}},
            "torch": _packed(self.torch),
            "cuda": [_packed(s) for s in self.cuda],
        }

    def restore(self) -> None:
        """Make them stand so again."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(self.torch)
        if torch.cuda.is_available() and len(self.cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(list(self.cuda))


def gathered(world: World) -> dict[str, Any]:
    """The generators of all processes as JSON, in the first one: its own, and those of the `others` by rank."""
    own, *others = world.gather(Generators.now().plain()) or [{}]
    return own | ({"others": others} if others else {})


def restore_generators(record: Mapping[str, Any], world: World) -> None:
    """As `gathered` saw them; a process that had no place then keeps its own."""
    saved = [record, *record.get("others", ())]
    if world.rank < len(saved):
        Generators.of(saved[world.rank]).restore()


def save_optimizer(state: Mapping[str, Any], scaler: torch.amp.GradScaler, file: Any) -> None:
    """The optimizer's state and, with fp16, the loss scale.

    Into an open file: given a path torch's own writer forgets why a write failed. Without its checksums, which take as
    long as the writing: the checkpoint has sums of its own.
    """
    before = get_crc32_options()
    set_crc32_options(False)
    try:
        torch.save({"optimizer": state, "scaler": scaler.state_dict()}, file)
    finally:
        set_crc32_options(before)


def load_optimizer(
    optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, folder: Path, device: torch.device
) -> None:
    """The opposite of `save_optimizer`, also where the parameters are shares now."""
    saved = torch.load(folder / OPTIMIZER, map_location=device, weights_only=True)
    spread_optimizer(optimizer, saved["optimizer"])
    scaler.load_state_dict(saved["scaler"])


def surroundings(threads: int) -> dict[str, Any]:
    """What must be equal for an equal curve: threads, the processor's abilities, versions."""
    return {"threads": threads, "cpu": torch.backends.cpu.get_cpu_capability(), "versions": versions()}


def versions() -> dict[str, str]:
    """Python and the packages that a result depends on."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _packed(state: torch.Tensor) -> str:
    return base64.b64encode(state.cpu().numpy().tobytes()).decode()


def _unpacked(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
