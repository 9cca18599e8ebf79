"""The document's words made ready for the loop; whatever this version can't do is refused here, all at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import asdict, frozen

from trainyard.trainer.failures import ConfigError
from trainyard.trainer.schedule import KINDS

_LATER = "is not in this version"
_LARGEST_MICRO_BATCH = 8


@frozen(kw_only=True)
class Settings:
    """What the loop does, with nothing left to decide but what the model and the data say."""

    method: str
    precision: str
    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    learning_rate: float
    micro_batch_size: int
    accumulation: int
    num_epochs: float
    max_steps: int | None
    warmup_ratio: float
    warmup_steps: int | None
    lr_scheduler: str
    weight_decay: float
    max_grad_norm: float
    gradient_checkpointing: bool
    max_sequence_length: int | None
    seed: int
    logging_steps: int
    save_steps: int | None
    save_total_limit: int | None
    eval_ratio: float
    eval_steps: int | None

    @property
    def batch_size(self) -> int:
        """Rows of one optimizer step."""
        return self.micro_batch_size * self.accumulation

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"batch_size": self.batch_size}


def read_settings(request: Mapping[str, Any]) -> Settings:
    """The settings of a resolved document. Raises `ConfigError` naming every field that this version can't do."""
    custom, tuning = _part(request, "customization"), _part(request, "tuning_parameters")
    problems = list(_not_in_this_version(request, custom, tuning))
    method = custom.get("method", "lora")
    micro, accumulation = _batch(tuning, problems)
    if problems:
        raise ConfigError("; ".join(problems))
    return Settings(
        method=method,
        precision=custom.get("precision", "bf16"),
        rank=custom.get("rank", 16),
        alpha=custom.get("lora_alpha", 32),
        dropout=custom.get("lora_dropout", 0.05),
        target_modules=tuple(custom.get("target_modules", ())),
        learning_rate=float(tuning.get("learning_rate", 5e-5 if method == "full" else 2e-4)),
        micro_batch_size=micro,
        accumulation=accumulation,
        num_epochs=tuning.get("num_epochs", 3),
        max_steps=tuning.get("max_steps"),
        warmup_ratio=tuning.get("warmup_ratio", 0.0),
        warmup_steps=tuning.get("warmup_steps"),
        lr_scheduler=tuning.get("lr_scheduler", "linear"),
        weight_decay=tuning.get("weight_decay", 0.0),
        max_grad_norm=tuning.get("max_grad_norm", 1.0),
        gradient_checkpointing=bool(tuning.get("gradient_checkpointing") or custom.get("gradient_checkpointing")),
        max_sequence_length=tuning.get("max_sequence_length"),
        seed=tuning.get("seed", 42),
        logging_steps=tuning.get("logging_steps", 10),
        save_steps=tuning.get("save_steps"),
        save_total_limit=tuning.get("save_total_limit", 3),
        eval_ratio=tuning.get("eval_ratio", 0.0),
        eval_steps=tuning.get("eval_steps"),
    )


def dataset_paths(request: Mapping[str, Any]) -> list[Path]:
    """The local JSONL files of the document. Raises `ConfigError` for every one that this version can't read."""
    problems, paths = [], []
    for i, dataset in enumerate(request.get("datasets") or ()):
        at, source = f"datasets[{i}]", str(dataset.get("source"))
        if dataset.get("format") != "jsonl":
            problems.append(f"{at}.format: {dataset.get('format')!r} {_LATER}; it reads jsonl")
        problems += [f"{at}.{k}: {dataset[k]!r} {_LATER}" for k in ("split", "streaming") if dataset.get(k)]
        if dataset.get("weight") not in (None, 1):
            problems.append(f"{at}.weight: {dataset['weight']!r} {_LATER}")
        path = local_path(source)
        if path is None:
            problems.append(f"{at}.source: {source!r} {_LATER}; it reads local files")
        else:
            paths.append(path)
    if not paths and not problems:
        problems.append("datasets: at least one is needed")
    if problems:
        raise ConfigError("; ".join(problems))
    return paths


def local_path(uri: str) -> Path | None:
    """The local path that a `file://` URI or a plain path names; None for any other scheme."""
    if uri.startswith("file://"):
        return Path(unquote(urlsplit(uri).path))
    return None if "://" in uri else Path(uri)


def _part(request: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {k: v for k, v in (request.get(name) or {}).items() if v is not None}


def _not_in_this_version(request: Mapping[str, Any], custom: dict[str, Any], tuning: dict[str, Any]) -> list[str]:
    known: list[tuple[str, Any, tuple[Any, ...]]] = [
        ("customization.method", custom.get("method", "lora"), ("lora", "full")),
        ("customization.precision", custom.get("precision", "bf16"), ("fp32", "fp16", "bf16")),
        ("tuning_parameters.objective", tuning.get("objective", "sft"), ("sft",)),
        ("tuning_parameters.optimizer", tuning.get("optimizer", "adamw"), ("adamw",)),
        ("tuning_parameters.lr_scheduler", tuning.get("lr_scheduler", "linear"), KINDS),
        ("tuning_parameters.packing", tuning.get("packing", False), (False,)),
    ]
    found = [
        f"{path}: {value!r} {_LATER}; it has {', '.join(map(str, can))}"
        for path, value, can in known
        if value not in can
    ]
    absent = [
        ("customization.trainable_layers", custom.get("trainable_layers")),
        ("base_model.weights_url", _part(request, "base_model").get("weights_url")),
        ("tuning_parameters.early_stopping_patience", tuning.get("early_stopping_patience")),
    ]
    return found + [f"{path} {_LATER}" for path, value in absent if value]


def _batch(tuning: dict[str, Any], problems: list[str]) -> tuple[int, int]:
    """Micro batch and accumulation: where both are given they decide, else the one that is missing follows."""
    batch = int(tuning.get("batch_size", 8))
    micro, accumulation = tuning.get("micro_batch_size"), tuning.get("gradient_accumulation_steps")
    if micro and accumulation:
        return int(micro), int(accumulation)
    if micro:
        micro = min(int(micro), batch)
        accumulation, rest = divmod(batch, micro)
        name = "micro_batch_size"
    elif accumulation:
        micro, rest = divmod(batch, int(accumulation))
        name = "gradient_accumulation_steps"
    else:
        micro = max(n for n in range(1, min(batch, _LARGEST_MICRO_BATCH) + 1) if batch % n == 0)
        return micro, batch // micro
    if rest or not micro:
        problems.append(f"tuning_parameters.{name}: {tuning[name]} must divide batch_size, which is {batch}")
    return int(micro), int(accumulation)
