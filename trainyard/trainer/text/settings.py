"""The document's words made ready for the loop, with nothing left to decide but what the model and the data say."""

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from attrs import asdict, evolve, frozen

from trainyard.trainer.failures import ConfigError
from trainyard.trainer.schedule import KINDS

ADAPTERS = ("lora", "qlora", "peft", "adapter")
WHOLE = ("full", "scratch")
METHODS = (*ADAPTERS, *WHOLE)
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor")
OBJECTIVES = ("sft", "dpo")
ON_BAD_ROW = ("fail", "skip")


@frozen(kw_only=True)
class Settings:
    """What the loop does. `batch_size` counts the rows of one step over all processes."""

    method: str
    precision: str
    rank: int
    alpha: float
    dropout: float
    target_modules: tuple[str, ...]
    trainable_layers: tuple[str, ...]
    peft_config: Mapping[str, Any] | None
    double_quant: bool
    compute_type: str | None
    quant_type: str
    objective: str
    optimizer: str
    learning_rate: float
    batch_size: int
    #: Rows that a device takes at once; None: chosen to fit.
    micro_batch_size: int | None
    processes: int
    strategy: str
    num_epochs: float
    max_steps: int | None
    warmup_ratio: float
    warmup_steps: int | None
    lr_scheduler: str
    weight_decay: float
    max_grad_norm: float
    gradient_checkpointing: bool
    max_sequence_length: int | None
    packing: bool
    seed: int
    logging_steps: int
    save_steps: int | None
    save_total_limit: int | None
    eval_ratio: float
    eval_steps: int | None
    early_stopping_patience: int | None
    on_bad_row: str
    merge: bool

    @property
    def adapts(self) -> bool:
        """Whether an adapter is trained on a frozen base."""
        return self.method in ADAPTERS

    @property
    def share(self) -> int:
        """Rows of one step in each process."""
        return self.batch_size // self.processes

    @property
    def accumulation(self) -> int:
        """Micro batches of one step in each process."""
        return -(-self.share // (self.micro_batch_size or self.share))

    def cut(self, micro_batch_size: int) -> "Settings":
        """The same with another micro batch; the effective batch stays what it is."""
        return evolve(self, micro_batch_size=max(1, min(micro_batch_size, self.share)))

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"gradient_accumulation_steps": self.accumulation}


def read_settings(request: Mapping[str, Any], processes: int = 1) -> Settings:
    """The settings of a resolved document for so many processes. Raises `ConfigError` with all that does not fit."""
    settings, problems = draft_settings(request, processes)
    if problems:
        raise ConfigError(*problems)
    return settings


def draft_settings(request: Mapping[str, Any], processes: int = 1) -> tuple[Settings, list[str]]:
    """The settings as they are asked for, and all that does not fit in them."""
    custom, tuning = part(request, "customization"), part(request, "tuning_parameters")
    extra, peft, qlora = part(request, "extra_parameters"), part(custom, "peft"), part(custom, "qlora")
    method = str(custom.get("method", "lora"))
    batch, micro, uneven = _batch(tuning, processes)
    settings = Settings(
        method=method,
        precision=custom.get("precision", "bf16"),
        rank=custom.get("rank", 16),
        alpha=custom.get("lora_alpha", 32),
        dropout=custom.get("lora_dropout", 0.05),
        target_modules=tuple(custom.get("target_modules", ())),
        trainable_layers=tuple(custom.get("trainable_layers", ())),
        peft_config=None if peft.get("use") is False else peft.get("config"),
        double_quant=bool(qlora.get("use_double_quant", False)),
        compute_type=qlora.get("bnb_4bit_compute_dtype"),
        quant_type=qlora.get("bnb_4bit_quant_type", "nf4"),
        objective=tuning.get("objective", "sft"),
        optimizer=tuning.get("optimizer", "adamw"),
        learning_rate=float(tuning.get("learning_rate", 5e-5 if method in WHOLE else 2e-4)),
        batch_size=batch,
        micro_batch_size=micro,
        processes=processes,
        strategy=extra.get("strategy", "auto"),
        num_epochs=tuning.get("num_epochs", 3),
        max_steps=tuning.get("max_steps"),
        warmup_ratio=tuning.get("warmup_ratio", 0.0),
        warmup_steps=tuning.get("warmup_steps"),
        lr_scheduler=tuning.get("lr_scheduler", "linear"),
        weight_decay=tuning.get("weight_decay", 0.0),
        max_grad_norm=tuning.get("max_grad_norm", 1.0),
        gradient_checkpointing=bool(tuning.get("gradient_checkpointing") or custom.get("gradient_checkpointing")),
        max_sequence_length=tuning.get("max_sequence_length"),
        packing=bool(tuning.get("packing", False)),
        seed=tuning.get("seed", 42),
        logging_steps=tuning.get("logging_steps", 10),
        save_steps=tuning.get("save_steps"),
        save_total_limit=tuning.get("save_total_limit", 3),
        eval_ratio=tuning.get("eval_ratio", 0.0),
        eval_steps=tuning.get("eval_steps"),
        early_stopping_patience=tuning.get("early_stopping_patience"),
        on_bad_row=extra.get("on_bad_row", "fail"),
        merge=bool(extra.get("merge", False)),
    )
    return settings, [*uneven, *_problems(settings)]


def part(request: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object of the document without its nulls."""
    return {k: v for k, v in (request.get(name) or {}).items() if v is not None}


def _problems(settings: Settings) -> Iterator[str]:
    """What no machine can do, or what goes against something else in the document."""
    closed: dict[str, tuple[object, tuple[str, ...]]] = {
        "customization.method": (settings.method, METHODS),
        "customization.precision": (settings.precision, PRECISIONS),
        "tuning_parameters.optimizer": (settings.optimizer, OPTIMIZERS),
        "tuning_parameters.lr_scheduler": (settings.lr_scheduler, KINDS),
        "tuning_parameters.objective": (settings.objective, OBJECTIVES),
        "extra_parameters.on_bad_row": (settings.on_bad_row, ON_BAD_ROW),
    }
    for path, (value, known) in closed.items():
        if value not in known:
            yield f"{path}: {value!r} is not one of {', '.join(known)}"
    if settings.optimizer.endswith("_8bit") and find_spec("bitsandbytes") is None:
        yield f"tuning_parameters.optimizer: {settings.optimizer} needs bitsandbytes; install trainyard[quant]"
    if settings.early_stopping_patience is not None and not settings.eval_ratio:
        yield (
            "tuning_parameters.early_stopping_patience: it waits for a better held-out loss; "
            "give eval_ratio a share of the rows, such as 0.05"
        )
    if settings.packing and settings.objective != "sft":
        yield f"tuning_parameters.packing: rows of objective {settings.objective!r} can't be packed; leave it out"


def _batch(tuning: dict[str, Any], processes: int) -> tuple[int, int | None, list[str]]:
    """Global batch and micro batch, and what does not come out even; where both parts of it are given, they decide."""
    batch, micro = int(tuning.get("batch_size", 8)), tuning.get("micro_batch_size")
    accumulation = tuning.get("gradient_accumulation_steps")
    if micro and accumulation:
        return int(micro) * int(accumulation) * processes, int(micro), []
    share, rest = divmod(batch, processes)
    if rest or not share:
        return (
            batch,
            micro,
            [f"tuning_parameters.batch_size: {batch} must be a multiple of the {processes} processes"],
        )
    part_of = int(micro or accumulation or 1)
    if share % part_of:
        name = "micro_batch_size" if micro else "gradient_accumulation_steps"
        return batch, micro, [f"tuning_parameters.{name}: {part_of} must divide batch_size, which is {batch}"]
    return batch, int(micro) if micro else (share // part_of if accumulation else None), []
