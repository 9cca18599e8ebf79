"""What the fields of a `/train` document say in the names of the options."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from attrs import field, frozen

_PRECISIONS: Final = {
    "fp32": {"mixed_precision": "no"},
    "fp16": {"mixed_precision": "fp16"},
    "bf16": {"mixed_precision": "bf16"},
    "int8": {"mixed_precision": "bf16", "base_model_precision": "int8-quanto"},
}
_OPTIMIZERS: Final = {
    "adamw": "torch-adamw",
    "adamw_8bit": "bnb-adamw8bit",
    "paged_adamw_8bit": "bnb-adamw8bit-paged",
    "adafactor": "torch-adafactor",
}
_USUAL_BATCH: Final = 8


#: Options, with their other names, that a field which can be changed says; the newer word is the field's.
_CHANGED: Final[Mapping[str, tuple[str, ...]]] = {
    "tuning_parameters.learning_rate": ("learning_rate",),
    "tuning_parameters.max_steps": ("max_train_steps", "num_train_epochs"),
    "tuning_parameters.num_epochs": ("num_train_epochs",),
    "tuning_parameters.save_steps": ("checkpoint_step_interval", "checkpointing_steps"),
    "tuning_parameters.logging_steps": ("logging_steps",),
    "tuning_parameters.eval_steps": ("validation_step_interval", "validation_steps"),
}


def without_options(extra: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `extra_parameters` but for the options that changes, by path in the document, say anew."""
    said = {name for path in changes for name in _CHANGED.get(path, ())}
    return {key: value for key, value in extra.items() if key.removeprefix("--") not in said}


@frozen(kw_only=True)
class Source:
    """A `/train` document: its defaults are filled in, or mean what the contract says of them."""

    request: Mapping[str, Any]
    #: Whether the document's author gave a field; of a document that nobody knows it of, all that is there.
    asked: Callable[[str], bool]
    #: Options that are given under their own names, in their own words.
    given: Mapping[str, Any]
    processes: int = 1

    def part(self, name: str) -> dict[str, Any]:
        """An object of the document without its nulls."""
        return {key: value for key, value in (self.request.get(name) or {}).items() if value is not None}


@frozen
class Mapped:
    """Values of options, and the field of the document that each comes from."""

    values: dict[str, Any] = field(factory=dict)
    paths: dict[str, str] = field(factory=dict)

    def put(self, name: str, value: Any, path: str) -> None:
        """A value of an option; none where the document says none."""
        if value is not None:
            self.values[name], self.paths[name] = value, path


def mapped(source: Source) -> Mapped:
    """All options that the document's fields say something of."""
    found = Mapped()
    _model(source, found)
    _tuning(source, found)
    _optimizer(source, found)
    _batch(source, found)
    _length(source, found)
    return found


def differences(source: Source, found: Mapped) -> Iterator[tuple[str, str]]:
    """Options that were given twice, by both names, with different values."""
    for name, path in found.paths.items():
        given = source.given.get(name)
        if given is not None and source.asked(path) and given != found.values[name]:
            yield name, f"differs from {path}: give one of them, or the same value"
    size, asked = source.part("tuning_parameters").get("batch_size"), "tuning_parameters.batch_size"
    names = ("train_batch_size", "gradient_accumulation_steps")
    if size and source.asked(asked) and any(name in source.given for name in names):
        at_once, times = (_whole(source.given.get(name, found.values.get(name))) for name in names)
        if at_once and times and (product := at_once * times * source.processes) != size:
            name = next(name for name in names if name in source.given)
            each = f"{at_once} × {times}" + (f" × {source.processes} processes" if source.processes > 1 else "")
            yield name, f"{each} is {product}, and {asked} is {size}; give one of them, or values that agree"


def _model(source: Source, found: Mapped) -> None:
    base, custom = source.part("base_model"), source.part("customization")
    found.put("pretrained_model_name_or_path", _place(base.get("model_name")), "base_model.model_name")
    found.put("revision", base.get("revision"), "base_model.revision")
    method, at = custom.get("method", "lora"), "customization"
    if method in ("full", "lora"):
        found.put("model_type", method, f"{at}.method")
    for name, value in _PRECISIONS.get(custom.get("precision", "bf16"), {}).items():
        found.put(name, value, f"{at}.precision")
    if method == "full":
        return
    found.put("lora_rank", custom.get("rank", 16), f"{at}.rank")
    if "lora_rank" not in source.given or source.asked(f"{at}.lora_alpha"):
        found.put("lora_alpha", custom.get("lora_alpha", 32), f"{at}.lora_alpha")
    found.put("lora_dropout", custom.get("lora_dropout", 0.05), f"{at}.lora_dropout")
    targets = custom.get("target_modules")
    found.put("peft_lora_target_modules", list(targets) if targets else None, f"{at}.target_modules")


def _place(name: Any) -> Any:
    return name.removeprefix("file://") if isinstance(name, str) else name


def _tuning(source: Source, found: Mapped) -> None:
    tuning, at = source.part("tuning_parameters"), "tuning_parameters"
    usual = {"seed": 42, "logging_steps": 10}
    for name in ("seed", "logging_steps", "gradient_checkpointing"):
        found.put(name, tuning.get(name, usual.get(name)), f"{at}.{name}")
    found.put("checkpoint_step_interval", tuning.get("save_steps", 0), f"{at}.save_steps")
    found.put("checkpoints_total_limit", tuning.get("save_total_limit", 3), f"{at}.save_total_limit")
    found.put("validation_step_interval", tuning.get("eval_steps"), f"{at}.eval_steps")
    found.put("tokenizer_max_length", tuning.get("max_sequence_length"), f"{at}.max_sequence_length")


def _optimizer(source: Source, found: Mapped) -> None:
    tuning, at = source.part("tuning_parameters"), "tuning_parameters"
    method = source.given.get("model_type", source.part("customization").get("method", "lora"))
    found.put("learning_rate", tuning.get("learning_rate", 5e-5 if method == "full" else 2e-4), f"{at}.learning_rate")
    found.put("lr_scheduler", tuning.get("lr_scheduler", "linear"), f"{at}.lr_scheduler")
    found.put("adam_weight_decay", tuning.get("weight_decay", 0), f"{at}.weight_decay")
    found.put("lr_warmup_steps", tuning.get("warmup_steps"), f"{at}.warmup_steps")
    if not source.given.get("lr_warmup_steps"):
        found.put("lr_warmup_ratio", tuning.get("warmup_ratio", 0), f"{at}.warmup_ratio")
    if "max_grad_norm" not in source.given:
        found.put("max_grad_norm", tuning.get("max_grad_norm", 1.0), f"{at}.max_grad_norm")
        found.put("grad_clip_method", "norm", f"{at}.max_grad_norm")
    name, path = tuning.get("optimizer", "adamw"), f"{at}.optimizer"
    mixed = source.given.get("mixed_precision", found.values.get("mixed_precision"))
    if mixed == "bf16" and not source.asked(path):
        found.put("optimizer", "adamw_bf16", path)
    else:
        found.put("optimizer", _OPTIMIZERS.get(name, name), path)


def _batch(source: Source, found: Mapped) -> None:
    """`batch_size` is that of a step over all processes."""
    tuning, at, given = source.part("tuning_parameters"), "tuning_parameters", source.given
    size = tuning.get("batch_size", _USUAL_BATCH) if _is_whole(tuning.get("batch_size", _USUAL_BATCH)) else _USUAL_BATCH
    share, asked = max(1, size // source.processes), source.asked(f"{at}.batch_size")
    at_once = _whole(given.get("train_batch_size", tuning.get("micro_batch_size")))
    times = _whole(given.get("gradient_accumulation_steps", tuning.get("gradient_accumulation_steps")))
    if at_once is None and times is None:
        at_once = 1  # fits wherever a picture does, and fills every bucket
    if at_once is None:
        assert times is not None
        at_once = max(1, share // times) if asked or "gradient_accumulation_steps" not in given else None
    elif times is None:
        times = max(1, share // at_once) if asked or "train_batch_size" not in given else None
    for name, value, path in (
        ("train_batch_size", at_once, "micro_batch_size"),
        ("gradient_accumulation_steps", times, "gradient_accumulation_steps"),
    ):
        if name not in given or path in tuning:
            found.put(name, tuning.get(path, value), f"{at}.{path if path in tuning else 'batch_size'}")


def _length(source: Source, found: Mapped) -> None:
    """Steps or epochs; the other one is 0."""
    tuning, at, given = source.part("tuning_parameters"), "tuning_parameters", source.given
    steps, epochs = tuning.get("max_steps"), tuning.get("num_epochs", 3)
    if steps:
        found.put("max_train_steps", steps, f"{at}.max_steps")
        found.put("num_train_epochs", 0, f"{at}.max_steps")
    elif given.get("max_train_steps"):
        found.values["num_train_epochs"] = 0
    else:
        found.put("max_train_steps", 0, f"{at}.num_epochs")
        found.put("num_train_epochs", epochs, f"{at}.num_epochs")


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _whole(value: Any) -> int | None:
    return value if _is_whole(value) else None
