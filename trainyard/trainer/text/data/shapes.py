"""The shapes that a row may have, and what each of them is made into."""

from collections.abc import Mapping
from typing import Any

from trainyard.trainer.text.data.material import Kind, RowError
from trainyard.trainer.text.data.preference import differs, preference
from trainyard.trainer.text.data.turns import conversation, kind_of, string, turns

#: How `instruction`, `input` and `output` are written; the part of the input is left out where there is none. The
#: output is the completion.
INSTRUCTION = "### Instruction:\n{instruction}\n\n"
INPUT = "### Input:\n{input}\n\n"
RESPONSE = "### Response:\n"

#: Keys that make a shape; others of a row are not looked at.
KEYS = (
    "text",
    "prompt",
    "completion",
    "instruction",
    "input",
    "output",
    "messages",
    "conversations",
    "system",
    "chosen",
    "rejected",
)
#: Keys that a row of a shape may lack.
OPTIONAL = frozenset({"input", "system"})
SHAPES = (
    '{"text": …}, {"prompt": …, "completion": …}, {"instruction": …, "input"?: …, "output": …}, '
    '{"input": …, "output": …} or {"messages": [{"role": …, "content": …}, …]}'
)
PREFERENCES = '{"prompt"?: …, "chosen": …, "rejected": …}'
Shape = tuple[Kind, Any]


def shape(row: Mapping[str, Any], objective: str) -> Shape:
    """Which kind of row it is and its value. Raises `RowError` when the objective can't learn from it."""
    if not isinstance(row, dict):
        given = SHAPES if objective == "sft" else PREFERENCES
        raise RowError(f"must be an object, got {kind_of(row)}; give {given}")
    if objective == "sft":
        return _supervised(row)
    if row.get("chosen") is None and row.get("rejected") is None:
        raise RowError(
            f"has no chosen and rejected, which objective {objective!r} learns from (its keys: {_keys(row)}); "
            f"give {PREFERENCES}"
        )
    return "preference", preference(row)


def has_target(kind: Kind, value: Any) -> bool:
    """Whether there is anything to learn."""
    if kind == "text":
        return bool(value.strip())
    if kind == "completion":
        return bool(value[1].strip())
    if kind == "messages":
        return any(turn["role"] == "assistant" and turn["content"].strip() for turn in value)
    return differs(value)


def _supervised(row: dict[str, Any]) -> Shape:
    if row.get("messages") is not None:
        return "messages", turns(row["messages"])
    if row.get("conversations") is not None:
        return "messages", conversation(row)
    if row.get("chosen") is not None and row.get("rejected") is not None:
        raise RowError("is a preference row (chosen, rejected), which needs tuning_parameters.objective 'dpo'")
    if row.get("completion") is not None or row.get("prompt") is not None:
        return "completion", (_text(row, "prompt"), _text(row, "completion"))
    if row.get("instruction") is not None:
        return "completion", (_instruction(row), _text(row, "output", "instruction"))
    if row.get("input") is not None and "output" in row:
        return "completion", (_text(row, "input"), _text(row, "output", "input"))
    if "text" in row:
        return "text", string(row["text"], "text")
    raise RowError(f"has none of the shapes that can be trained on (its keys: {_keys(row)}); give {SHAPES}")


def _instruction(row: dict[str, Any]) -> str:
    head = INSTRUCTION.replace("{instruction}", string(row["instruction"], "instruction"))
    given = row.get("input")
    part = INPUT.replace("{input}", string(given, "input")) if given else ""
    return head + part + RESPONSE


def _text(row: dict[str, Any], key: str, other: str | None = None) -> str:
    if key not in row:
        pair = f"{other} and {key}" if other else "prompt and completion"
        raise RowError(f"{key} is missing; a row of {pair} needs both")
    return string(row[key], key)


def _keys(row: dict[str, Any]) -> str:
    return ", ".join(repr(key)[:40] for key in list(row)[:8]) or "none"
