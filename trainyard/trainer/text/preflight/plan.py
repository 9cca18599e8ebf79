"""What a job will do, before it does it: its data in tokens, what is trained, how much memory, how many steps."""

import math
import re
from typing import Any

import numpy as np
import torch
from attrs import evolve, frozen

from trainyard.trainer import schedule
from trainyard.trainer.reporting import Reporter
from trainyard.trainer.text import model as models
from trainyard.trainer.text.data.material import Corpus, counted
from trainyard.trainer.text.memory.estimate import DeviceKind, Estimate, Needs, fit, too_large
from trainyard.trainer.text.memory.room import available
from trainyard.trainer.text.pace import warmup_problem
from trainyard.trainer.text.preflight.sample import Sample
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.strategy import choose_strategy
from trainyard.trainer.text.tokens.packing import pack

_LENGTH = "tuning_parameters.max_sequence_length"
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
#: What peft wraps around a module's own name.
_WRAPPING = re.compile(r"\.(lora_\w+|default|base_layer|modules_to_save|original_module)\b(?=\.|$)")


@frozen(kw_only=True)
class Plan:
    """How a job will use its memory; `settings` have the micro batch that was chosen."""

    settings: Settings
    estimate: Estimate
    #: Bytes that are there, where that is known.
    available: int | None
    warning: str | None

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        there = {} if self.available is None else {"available_bytes": self.available}
        shared = {"strategy": self.settings.strategy} if self.settings.processes > 1 else {}
        return self.estimate.plain() | there | shared | {"fits": self.warning is None}


def plan(
    model: Any,
    settings: Settings,
    longest: int,
    *,
    device_kind: DeviceKind,
    there: int | None,
    learned: int | None = None,
    overhead: int | None = None,
) -> Plan:
    """The micro batch that fits where none was given, and the estimate for it.

    `longest` is the longest row in tokens, `learned` the most that any row learns, `there` the bytes that the process
    may have (None: unknown, and taken to be enough). `model` and `overhead` are as for `Needs`.
    """
    needs = Needs(model, settings, longest, device_kind=device_kind, learned=learned, overhead=overhead)
    if settings.micro_batch_size is not None:
        found = needs.rows(settings.micro_batch_size)
        warning = None if there is None else too_large(found, there)
        return Plan(settings=settings, estimate=found, available=there, warning=warning)
    chosen = fit(needs, settings, 1 << 62 if there is None else there, device_kind)
    return Plan(settings=settings.cut(chosen.micro), estimate=chosen.estimate, available=there, warning=chosen.warning)


def planned(
    model: Any,
    settings: Settings,
    lengths: np.ndarray,
    longest: int,
    device: torch.device,
    memory_gb: float | None,
) -> Plan:
    """The plan of a job that has its data in tokens and its device: `lengths` of the rows, `memory_gb` of the host."""
    there = available(device, memory_gb, settings.processes)
    width = longest if settings.packing else int(lengths.max())
    return plan(model, settings, width, device_kind=_kind(device), there=there)


def tell(
    report: Reporter, plan: Plan, model: Any, lengths: np.ndarray, truncated: int, steps: int, rows: int | None = None
) -> None:
    """Say it all in one event. `lengths` are those of the rows in tokens, of which `truncated` had to be cut."""
    counted = rows or len(lengths)
    found = {
        "tokens": int(lengths.sum()),
        "longest": int(lengths.max()),
        "truncated_share": round(truncated / counted, 4),
        "trainable_parameters": models.trainable(model),
        "steps": steps,
        "memory": plan.plain(),
    }
    accumulation = plan.settings.accumulation
    report.log(
        f"{found['tokens']:,} tokens, the longest row {found['longest']:,}, {found['truncated_share']:.1%} cut; "
        f"{found['trainable_parameters']:,} parameters trained; {plan.settings.batch_size} rows a step "
        f"({plan.estimate.micro_batch_size} at once × {accumulation}"
        + (f" × {plan.settings.processes} processes" if plan.settings.processes > 1 else "")
        + f"); {steps:,} steps; about {plan.estimate.bytes / (1 << 30):.2f} GiB at the peak",
        preflight=found,
    )
    if plan.warning:
        report.log(plan.warning, level="warning")


@frozen(kw_only=True)
class Preflight:
    """The answer of a deep validation (contract train.md, 3)."""

    data: dict[str, Any]
    model: dict[str, Any]
    memory: dict[str, Any]
    steps: int
    warnings: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "data": self.data,
            "model": self.model,
            "memory": self.memory,
            "steps": self.steps,
            "warnings": list(self.warnings),
        }


def examine(
    corpus: Corpus,
    sample: Sample,
    tokenizer: Any,
    model: Any,
    settings: Settings,
    *,
    device_kind: DeviceKind,
    there: int | None,
) -> Preflight:
    """Examine a job whose model lies on meta, adapter and all."""
    width, learned = (sample.longest, None) if settings.packing else (sample.widest, sample.learned)
    found = plan(model, settings, width, device_kind=device_kind, there=there, learned=learned)
    if choose_strategy(settings, fits=found.warning is None) == "fsdp" != settings.strategy:
        shares = evolve(settings, strategy="fsdp")
        found = plan(model, shares, width, device_kind=device_kind, there=there, learned=learned)
    total = steps(sample, settings)
    return Preflight(
        data=sample.data(tokenizer),
        model=about(model),
        memory=found.plain(),
        steps=total,
        warnings=tuple(_warnings(corpus, sample, found, settings, total)),
    )


def steps(sample: Sample, settings: Settings) -> int:
    """Optimizer steps of the whole run."""
    fair, kept = (sum(one.row.times for one in some) for some in (sample.fair, sample.trained))
    rows = sample.rows * kept / fair
    held = min(rows - 1, max(1, round(rows * settings.eval_ratio))) if settings.eval_ratio > 0 else 0
    taken = rows - held
    if settings.packing and settings.objective == "sft":
        taken *= len(pack(sample.lengths, sample.longest)) / kept
    in_epoch = math.ceil(max(1, round(taken)) / settings.batch_size)
    return schedule.total_steps(in_epoch, settings.num_epochs, settings.max_steps)


def about(model: Any) -> dict[str, Any]:
    """Parameters, those that are trained, and the modules that they are in; `*` stands for the numbers of layers."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    modules = dict.fromkeys(_module(name) for name, _ in trained)
    return {
        "parameters": models.parameters(model),
        "trainable_parameters": sum(p.numel() for _, p in trained),
        "trainable_modules": list(modules),
    }


def _module(parameter: str) -> str:
    name = parameter.removeprefix("base_model.model.").rpartition(".")[0] or parameter
    return _NUMBER.sub("*", _WRAPPING.sub("", name))


def _warnings(corpus: Corpus, sample: Sample, found: Plan, settings: Settings, total: int) -> list[str]:
    """Each begins with the path of the field that it is about."""
    said = []
    for tally, what in (
        (corpus.skipped, "bad and skipped"),
        (corpus.without_target, "without a target to learn"),
    ):
        if tally:
            said.append(f"datasets: {counted(len(tally), 'row is', 'rows are')} {what}: {tally.words()}")
    cut = [one for one in sample.fair if one.tokens > sample.longest]
    if cut:
        share = len(cut) / len(sample.fair)
        said.append(
            f"{_LENGTH}: {share:.1%} of the rows are longer than {sample.longest} tokens and are cut, as "
            f"{cut[0].row.place}"
        )
    lost = len(sample.fair) - len(sample.trained)
    if lost:
        share = lost / len(sample.fair)
        said.append(
            f"{_LENGTH}: {share:.1%} of the rows have no target within {sample.longest} tokens and are left out"
        )
    if settings.eval_ratio > 0 and sample.rows < 2:
        said.append(
            f"tuning_parameters.eval_ratio: {settings.eval_ratio:g} of {counted(sample.rows)} is none; nothing is held "
            "out or evaluated, which takes at least 2 rows"
        )
    if (problem := warmup_problem(settings, total)) is not None:
        said.append(problem)
    if found.warning:
        asked = "tuning_parameters.micro_batch_size" if settings.micro_batch_size else "resources.memory_gb"
        said.append(f"{asked}: {found.warning}")
    return said


def _kind(device: torch.device) -> DeviceKind:
    return "cuda" if device.type == "cuda" else "cpu"
