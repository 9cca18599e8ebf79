"""A few steps of any method on a tiny model, through the trainer's own functions, and what stock loaders make of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from attrs import frozen

from trainyard.trainer.secrets import Secrets
from trainyard.trainer.text import model as models
from trainyard.trainer.text.settings import Settings, read_settings

IDS = (torch.arange(60).view(4, 15) * 7) % 290 + 4
CPU = torch.device("cpu")


def document(model: Path | str, *, tuning: dict[str, Any] | None = None, merge: bool = False, **custom: Any) -> Any:
    """A resolved document of `customization`, as far as the model side reads one."""
    return {
        "base_model": {"provider": "custom", "model_name": str(model)},
        "customization": {"method": "lora", "precision": "fp32", "rank": 4} | custom,
        "tuning_parameters": tuning or {},
        "extra_parameters": {"merge": merge},
    }


@frozen
class Trained:
    """A trained model, what it was trained by, and the logits that it came to."""

    model: Any
    source: models.Source
    settings: Settings
    before: torch.Tensor
    after: torch.Tensor
    losses: list[float]
    warnings: list[str]

    @property
    def half(self) -> torch.dtype | None:
        return models.computed_in(self.settings, CPU)

    def result(self, folder: Path) -> Path:
        models.save_result(self.model, self.source, self.settings, folder)
        return folder


def find(request: Any, folder: Path) -> models.Source:
    nothing: Callable[[], None] = lambda: None  # noqa: E731
    return models.find(request, Secrets(), into=folder / "into", cache=folder / "cache", check=nothing, say=print)


def load(request: Any, folder: Path, *, resumed: Path | None = None, steps: int = 5, warn: Any = print) -> Any:
    """Source, settings and model of a document, as the loop gets them."""
    settings = read_settings(request)
    models.check_machine(settings, CPU)
    source = find(request, folder)
    torch.manual_seed(settings.seed)
    return source, settings, models.load_model(source, settings, resumed, steps=steps, warn=warn)


def train(request: Any, folder: Path, steps: int = 5, rate: float = 1e-2) -> Trained:
    """Load, train for some steps, and look at the logits."""
    warnings: list[str] = []
    source, settings, model = load(request, folder, steps=steps, warn=warnings.append)
    half = models.computed_in(settings, CPU)
    before = logits(model, half)
    losses = go_on(model, half, steps, rate)
    return Trained(model, source, settings, before, logits(model, half), losses, warnings)


def go_on(model: Any, half: torch.dtype | None, steps: int, rate: float, first: int = 1) -> list[float]:
    """So many steps of plain torch."""
    optimizer = torch.optim.AdamW(models.parameter_groups(model, 0.0), lr=rate)
    scaler = torch.amp.GradScaler("cpu", enabled=half is torch.float16)
    model.train()
    losses = []
    for number in range(first, first + steps):
        with torch.autocast("cpu", half, enabled=half is not None):
            found = model(input_ids=IDS, use_cache=False).logits[:, models.virtual_tokens(model) :]
        loss = torch.nn.functional.cross_entropy(found[:, :-1].float().flatten(0, 1), IDS[:, 1:].flatten())
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        models.before_step(model)
        scaler.step(optimizer)
        scaler.update()
        models.after_step(model, number)
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@torch.no_grad()
def logits(model: Any, half: torch.dtype | None = None) -> torch.Tensor:
    model.eval()
    with torch.autocast("cpu", half, enabled=half is not None):
        return model(input_ids=IDS, use_cache=False).logits.float()


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    return ((one - other).abs().max() / other.abs().max()).item()


def stock_adapter(base: Path, folder: Path, **arguments: Any) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, **arguments), folder)


def stock_model(folder: Path, **arguments: Any) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, **arguments)
