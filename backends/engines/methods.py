"""What is trained and how, as far as it can be judged without the model: methods, precisions, peft configurations."""

import json
from collections.abc import Iterator

from backends.engines import paths
from backends.engines.machine import Machine
from schemas.train import Customization, TrainRequest

Found = Iterator[tuple[str, str]]

ADAPTERS = ("lora", "qlora", "peft", "adapter")
EIGHT_BIT_OPTIMIZERS = ("adamw_8bit", "paged_adamw_8bit")
#: They learn tokens that stand before the text, or mix other adapters row by row: nothing that weights could take in.
UNMERGEABLE = (
    *("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "CPT", "ADAPTION_PROMPT"),
    *("XLORA", "POLY"),
)
#: Fields of `customization` and the keys of `peft.config` that mean the same, by the type of adapter.
_SAME: dict[str, dict[str, str]] = {
    "LORA": {"rank": "r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"},
    "ADALORA": {"rank": "target_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"},
    "LOHA": {"rank": "r", "lora_alpha": "alpha"},
    "LOKR": {"rank": "r", "lora_alpha": "alpha"},
}
_TASKS = ("SEQ_CLS", "SEQ_2_SEQ_LM", "TOKEN_CLS", "QUESTION_ANS", "FEATURE_EXTRACTION")
QUANT = "pip install 'trainyard[quant]' would do"


def quantised(custom: Customization) -> bool:
    """Whether the base is held in fewer bits than it has."""
    return custom.method == "qlora" or custom.precision == "int8"


def computes_in_bf16(method: str, precision: str, compute: str | None) -> bool:
    """Whether a device must know bf16 for it; `compute` is the type for 4-bit weights."""
    if method == "qlora" and compute is not None:
        return compute == "bfloat16"
    return precision == "bf16"


def needs_bf16(custom: Customization) -> bool:
    """`computes_in_bf16` of a document."""
    return computes_in_bf16(custom.method, custom.precision, compute_type(custom))


def compute_type(custom: Customization) -> str | None:
    """The type that was asked for 4-bit weights to be computed in."""
    return None if custom.qlora is None else custom.qlora.bnb_4bit_compute_dtype


def adapter_kind(request: TrainRequest) -> str | None:
    """The type of adapter that is trained, in peft's words; None without one, and where only the run can tell.

    Of method `adapter` it is that of the adapter itself, where that lies on this machine.
    """
    custom = request.customization
    if custom.method not in ADAPTERS:
        return None
    if custom.method != "adapter":
        used = custom.peft is not None and custom.peft.use is not False
        return str(((custom.peft.config or {}) if custom.peft and used else {}).get("peft_type") or "LORA")
    folder = paths.model_path(request.base_model.model_name)
    if folder is None or request.base_model.weights_url is not None:
        return None
    try:
        config = json.loads((folder / "adapter_config.json").read_bytes())
    except (OSError, ValueError):
        return None  # that there is none is said of the model
    return str(config.get("peft_type") or "LORA") if isinstance(config, dict) else None


def method_errors(request: TrainRequest, machine: Machine) -> Found:
    """What of `customization` does not go together, or needs a package that is not here."""
    custom = request.customization
    if custom.precision == "int8":
        yield from _int8(custom)
    lacks = "bitsandbytes" in machine.absent
    if lacks and custom.method == "qlora":
        yield "customization.method", f"'qlora' needs bitsandbytes, which is not installed: {QUANT}"
    if lacks and custom.precision == "int8" and custom.method != "qlora":
        yield "customization.precision", f"'int8' needs bitsandbytes, which is not installed: {QUANT}"
    yield from _peft(custom)
    yield from _asked_twice(request)


def _int8(custom: Customization) -> Found:
    if custom.method not in ADAPTERS:
        yield (
            "customization.precision",
            f"'int8' quantises a frozen base, and method {custom.method!r} trains it; bf16 or fp32 would run, "
            "or method: lora",
        )
    elif custom.method == "qlora":
        yield "customization.precision", "'int8' and method 'qlora' quantise the same base; bf16 would run"


def _peft(custom: Customization) -> Found:
    at, method, peft = "customization.peft", custom.method, custom.peft
    if peft is None:
        return
    if peft.use is False:
        if method == "peft":
            yield f"{at}.use", "method 'peft' uses it; use: true, or method: lora would run"
        return
    if peft.use and method not in ADAPTERS:
        yield f"{at}.use", f"method {method!r} trains no adapter; use: false, or method: lora would run"
    config = peft.config or {}
    kind, task = config.get("peft_type"), config.get("task_type")
    if kind is not None and not (isinstance(kind, str) and kind.replace("_", "").isalnum() and kind.isupper()):
        yield f"{at}.config.peft_type", f"must be a name of peft's such as LORA, IA3 or PREFIX_TUNING, got {kind!r}"
    elif kind not in (None, "LORA") and method in ("lora", "qlora"):
        yield f"{at}.config.peft_type", f"method {method!r} trains LORA, got {kind!r}; method: peft would run"
    if task in _TASKS or not isinstance(task, str | None):
        yield f"{at}.config.task_type", f"must be CAUSAL_LM: the text engine trains no other, got {task!r}"
    if config.get("inference_mode"):
        yield f"{at}.config.inference_mode", "must be false: an adapter in it can't be trained"


def _asked_twice(request: TrainRequest) -> Found:
    """What stands in `customization` and, with another value, in `peft.config`."""
    custom = request.customization
    if custom.peft is None or custom.peft.use is False or custom.method not in ("lora", "qlora", "peft"):
        return
    config = custom.peft.config or {}
    for name, key in _SAME.get(str(config.get("peft_type") or "LORA"), {}).items():
        value, path = getattr(custom, name), f"customization.{name}"
        if path in request.asked and config.get(key) not in (None, value):
            yield (
                f"customization.peft.config.{key}",
                f"is {config[key]!r}, and {path} is {value!r}, which is the same; give one of the two",
            )


def unused(request: TrainRequest) -> Iterator[str]:
    """The paths of `customization` that were asked for and say nothing to the method."""
    custom = request.customization
    if custom.method in ("lora", "qlora", "peft"):
        return
    names = ["rank", "lora_alpha", "lora_dropout", "target_modules"]
    if custom.method == "adapter" and custom.peft is not None and custom.peft.config:
        names.append("peft.config")
    yield from (f"customization.{name}" for name in names if f"customization.{name}" in request.asked)
