"""Everything that a run needs to go on as if it had never been stopped."""

import base64
import platform
import random
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import define, field
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

OPTIMIZER = "optimizer.pt"
_PACKAGES = ("torch", "transformers", "peft", "accelerate", "tokenizers", "safetensors", "numpy", "trainyard")


@define
class Position:
    """Where the run stands: steps done, place in the data, and what was gathered since the last report."""

    step: int = 0
    epoch: int = 0
    index: int = 0
    evaluated: int = -1
    loss_sum: float = 0.0
    loss_steps: int = 0
    metrics: dict[str, Any] = field(factory=dict)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Position":
        """As a checkpoint's record tells it."""
        loader, gathered, progress = record["loader"], record["accumulation"], record["progress"]
        return cls(
            step=record["step"],
            epoch=loader["epoch"],
            index=loader["index"],
            evaluated=progress["evaluated"],
            loss_sum=gathered["loss_sum"],
            loss_steps=gathered["loss_steps"],
            metrics=dict(progress["metrics"]),
        )

    def advance(self, batches: int, loss: float) -> None:
        """One step is done; `batches` make an epoch."""
        self.step += 1
        self.index += 1
        self.loss_sum += loss
        self.loss_steps += 1
        if self.index == batches:
            self.epoch, self.index = self.epoch + 1, 0

    def take_loss(self) -> float:
        """The mean loss since it was last taken."""
        mean = self.loss_sum / self.loss_steps
        self.loss_sum, self.loss_steps = 0.0, 0
        self.metrics["loss"] = mean
        return mean

    def note_evaluation(self, metrics: Mapping[str, float]) -> None:
        """The held-out rows were evaluated at this step; the first time is remembered too."""
        self.evaluated = self.step
        self.metrics.setdefault("eval_loss_before", metrics["eval_loss"])
        self.metrics.update(metrics)


def generators() -> dict[str, Any]:
    """The state of every generator of random numbers, as JSON."""
    numpy_state = np.random.get_state(legacy=False)
    inner = numpy_state["state"]
    return {
        "python": random.getstate(),
        "numpy": numpy_state | {"state": inner | {"key": inner["key"].tolist()}},
        "torch": _packed(torch.get_rng_state()),
        "cuda": [_packed(s) for s in torch.cuda.get_rng_state_all()] if torch.cuda.is_available() else [],
    }


def restore_generators(state: dict[str, Any]) -> None:
    """The opposite of `generators`."""
    kind, values, gauss = state["python"]
    random.setstate((kind, tuple(values), gauss))
    inner = state["numpy"]["state"]
    np.random.set_state(state["numpy"] | {"state": inner | {"key": np.array(inner["key"], np.uint32)}})
    torch.set_rng_state(_unpacked(state["torch"]))
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([_unpacked(s) for s in state["cuda"]])


def save_optimizer(optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, folder: Path) -> None:
    """The optimizer and, with fp16, the loss scale."""
    with (folder / OPTIMIZER).open("wb") as file:  # by a path torch's own writer forgets why a write failed
        torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, file)


def load_state(
    model: Any, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, folder: Path, device: torch.device
) -> None:
    """Optimizer and, where there is one, adapter; a full model was loaded from the checkpoint itself."""
    if isinstance(model, PeftModel):
        set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors", device=str(device)))
    saved = torch.load(folder / OPTIMIZER, map_location=device, weights_only=True)
    optimizer.load_state_dict(saved["optimizer"])
    scaler.load_state_dict(saved["scaler"])


def surroundings(threads: int) -> dict[str, Any]:
    """What must be equal for an equal curve: threads, the processor's abilities, versions."""
    return {"threads": threads, "cpu": torch.backends.cpu.get_cpu_capability(), "versions": versions()}


def versions() -> dict[str, str]:
    """Python and the packages that a result depends on."""
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
