"""Preference rows: a chosen and a rejected answer to one prompt, as texts or as messages."""

from typing import Any

from trainyard.trainer.text.data.material import RowError
from trainyard.trainer.text.data.turns import Turns, in_common, kind_of, string, turns

Side = str | Turns
Pair = tuple[Side, Side, Side]


def preference(row: dict[str, Any]) -> Pair:
    """Prompt, chosen and rejected of a row: three texts, or three lists of messages.

    A prompt that is not given is what chosen and rejected begin with in common. Raises `RowError`.
    """
    for key in ("chosen", "rejected"):
        if row.get(key) is None:
            raise RowError(f"{key} is missing; a preference row needs chosen and rejected")
    chosen, rejected = _side(row["chosen"], "chosen"), _side(row["rejected"], "rejected")
    prompt = None if row.get("prompt") is None else _side(row["prompt"], "prompt")
    if isinstance(chosen, str) and isinstance(rejected, str):
        return _of_texts(prompt, chosen, rejected)
    if isinstance(chosen, list) and isinstance(rejected, list):
        return _of_turns(prompt, chosen, rejected)
    raise RowError(
        f"chosen and rejected must both be strings or both be messages, got {kind_of(chosen)} and {kind_of(rejected)}"
    )


def differs(pair: Pair) -> bool:
    """Whether there is something to prefer: two answers that are not empty and not the same."""
    _, chosen, rejected = pair
    return _said(chosen) and _said(rejected) and chosen != rejected


def _side(value: object, where: str) -> Side:
    return turns(value, where) if isinstance(value, list) else string(value, where)


def _said(side: Side) -> bool:
    if isinstance(side, str):
        return bool(side.strip())
    return any(turn["role"] == "assistant" and turn["content"].strip() for turn in side)


def _of_texts(prompt: Side | None, chosen: str, rejected: str) -> Pair:
    if isinstance(prompt, list):
        raise RowError("prompt must be a string, as chosen and rejected are, got a list")
    if prompt is not None:
        return prompt, chosen, rejected
    end = in_common(chosen, rejected)
    at = max(chosen.rfind(" ", 0, end), chosen.rfind("\n", 0, end) + 1)
    if at <= 0:
        raise RowError("prompt is missing, and chosen and rejected begin with nothing in common")
    return chosen[:at], chosen[at:], rejected[at:]


def _of_turns(prompt: Side | None, chosen: Turns, rejected: Turns) -> Pair:
    """A prompt that both sides repeat is taken once."""
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt or []
    end = in_common(chosen, rejected)
    if asked and (not end or (chosen[0]["role"] == "assistant" and rejected[0]["role"] == "assistant")):
        return asked, _answers(chosen, "chosen"), _answers(rejected, "rejected")
    while end and (end in (len(chosen), len(rejected)) or chosen[end - 1]["role"] == "assistant"):
        end -= 1
    if not end:
        raise RowError("prompt is missing, and chosen and rejected have no first message in common")
    return chosen[:end], _answers(chosen[end:], "chosen"), _answers(rejected[end:], "rejected")


def _answers(side: Turns, where: str) -> Turns:
    if side[-1]["role"] != "assistant":
        raise RowError(f"{where} must end with a message of the assistant, got {side[-1]['role']!r}")
    return side
