"""The closed sets and limited types of the `/train` contract."""

import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, get_args

from schemas.limits import Holds, Length, Matches, Range
from schemas.uri import HTTP_SCHEMES, STORAGE_SCHEMES, is_location, is_metadata_url, is_uri
from schemas.values import Secret

Provider = Literal["huggingface", "meta", "nemo", "nemotron", "bim", "mistral", "tii", "custom"]
Method = Literal["full", "lora", "qlora", "peft", "adapter", "scratch", "new-transformer"]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
DataFormat = Literal["jsonl", "parquet", "csv", "hf", "nemo", "arrow", "imagefolder"]
Scheduler = Literal["linear", "cosine", "constant", "constant_with_warmup", "polynomial"]
Optimizer = Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor"]
ComputeType = Literal["float16", "bfloat16"]
QuantType = Literal["nf4", "fp4"]
OnBadRow = Literal["fail", "skip"]
Engine = Literal["text", "diffusion", "command"]
EventName = Literal[
    "queued", "submitted", "running", "phase", "progress", "log", "checkpoint", "validation", "artifact", "stalled",
    "changed", "retrying", "paused", "succeeded", "failed", "cancelled",
]  # fmt: skip

#: What a webhook is told where the document names no events of its own.
LIFECYCLE: Final[tuple[EventName, ...]] = (
    "queued", "submitted", "running", "checkpoint", "retrying", "paused", "changed", "stalled", "succeeded", "failed",
    "cancelled",
)  # fmt: skip

EVENT_NAMES: Final[tuple[str, ...]] = get_args(EventName)

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def is_env_name(text: str) -> bool:
    """May a caller set this variable for his run?"""
    taken = text.startswith(("LD_", "PYTHON", "TRAINYARD_")) or text == "PATH"
    return _ENV_NAME.fullmatch(text) is not None and not taken


def is_header_value(text: str) -> bool:
    """May it be sent as the value of an HTTP header?"""
    return text.isprintable() and text == text.strip()


_SCHEMES: Final = ", ".join(STORAGE_SCHEMES)

#: What may be a job's id, and so a folder's name and a segment of a URL.
JOB_ID: Final = Matches(
    r"(?!validate$)(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9._-]{0,127}",
    "1–128 characters of A-Za-z0-9._- without '..', not beginning with '.' or '-', and not 'validate'",
)
JobId = Annotated[str, JOB_ID]
Text = Annotated[str, Length(min=1)]
NAME: Final = Matches(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a name of up to 64 characters of A-Za-z0-9._-")
Name = Annotated[str, NAME]
Location = Annotated[str, Holds(is_location, f"a path, or a whole URI of {_SCHEMES}")]
WeightsUrl = Annotated[
    str,
    Holds(
        lambda text: is_uri(text, (*HTTP_SCHEMES, *STORAGE_SCHEMES)), f"a whole URL of http, {_SCHEMES}", format="uri"
    ),
]
HookUrl = Annotated[
    str,
    Holds(lambda text: is_uri(text, HTTP_SCHEMES), "an http or https URL with a host", format="uri"),
    Holds(lambda text: not is_metadata_url(text), words="that is no cloud's metadata address"),
]
HeaderSecret = Annotated[Secret, Holds(is_header_value, "one line of printable characters")]
EnvName = Annotated[
    str,
    Holds(is_env_name, "a variable's name (letters, digits, _) other than LD_*, PYTHON*, PATH and TRAINYARD_*"),
]
Environment = Mapping[EnvName, Secret]
Command = Annotated[tuple[str, ...], Length(min=1, noun="a list of strings")]
Labels = Annotated[Mapping[str, str], Length(max=64, noun="an object of strings")]

Count = Annotated[int, Range(ge=0)]
AtLeastOne = Annotated[int, Range(ge=1)]
Positive = Annotated[float, Range(gt=0)]
NotNegative = Annotated[float, Range(ge=0)]
Fraction = Annotated[float, Range(ge=0, le=1)]
Seed = Annotated[int, Range(ge=0, le=2**32 - 1)]
Priority = Annotated[int, Range(ge=-100, le=100)]
