"""Message lists: `messages` of role and content, and `conversations` of from and value."""

from typing import Any

from trainyard.trainer.text.data.material import RowError

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
#: Who speaks in a `from` of ShareGPT's and NeMo's files.
SPEAKERS = {
    "human": "user",
    "prompter": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "observation": "tool",
}
Turns = list[dict[str, str]]


def turns(value: object, where: str = "messages") -> Turns:
    """The turns of a list of messages, in either spelling. Raises `RowError` naming the turn."""
    if not isinstance(value, list) or not value:
        raise RowError(f"{where} must be a list of at least one message, got {kind_of(value)}")
    return [_turn(turn, f"{where}[{i}]") for i, turn in enumerate(value)]


def conversation(row: dict[str, Any]) -> Turns:
    """The turns of a row with `conversations`, and before them its `system` where it has one."""
    system = row.get("system")
    begin = [{"role": "system", "content": string(system, "system")}] if system else []
    return begin + turns(row["conversations"], "conversations")


def string(value: object, where: str) -> str:
    """A string of valid Unicode, else `RowError`."""
    if not isinstance(value, str):
        raise RowError(f"{where} must be a string, got {kind_of(value)}")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as e:
            raise RowError(f"{where} has a lone surrogate, which is not valid Unicode") from e
    return value


def in_common(one: str | Turns, other: str | Turns) -> int:
    """How many characters, or turns, two of them have in common at their beginning."""
    shorter = min(len(one), len(other))
    return next((i for i in range(shorter) if one[i] != other[i]), shorter)


def kind_of(value: object) -> str:
    """What a value is, in JSON's words."""
    if value == []:
        return "an empty list"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    names = {dict: "an object", list: "a list", str: "a string", bytes: "bytes", type(None): "null"}
    return names.get(type(value), f"a {type(value).__name__}")


def _turn(turn: object, where: str) -> dict[str, str]:
    if not isinstance(turn, dict):
        raise RowError(f"{where} must be an object with role and content, got {kind_of(turn)}")
    if turn.get("tool_calls"):
        raise RowError(f"{where}.tool_calls can't be trained on; write the call into content")
    if "role" not in turn and "from" in turn:
        speaker, content = turn["from"], string(turn.get("value"), f"{where}.value")
        role = SPEAKERS.get(speaker.lower(), speaker.lower()) if isinstance(speaker, str) else speaker
        if role not in ROLES:
            known = ", ".join(sorted(ROLES | SPEAKERS.keys()))
            raise RowError(f"{where}.from must be one of {known}, got {speaker!r}")
        return {"role": role, "content": content}
    role = turn.get("role")
    if not isinstance(role, str) or role not in ROLES:
        raise RowError(f"{where}.role must be one of {', '.join(sorted(ROLES))}, got {role!r}")
    return {"role": role, "content": string(turn.get("content"), f"{where}.content")}
