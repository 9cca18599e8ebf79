"""What resumes and changes made of a job's document, as kept in the row's `changes` (contract train.md, "Frozen").

An entry is `{"id", "step", "values"}`: `values` by dotted path, `step` the one that they hold from, None while the run
has not answered. An entry with `"resume": true` was given with a resume, or while nothing ran: its values are part of
the document that the next run is built from. Every other one is handed to runs beside the document, and holds from its
step on.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from schemas.diffusion.mapping import without_options

Entry = dict[str, Any]
DEADLINE = "resources.max_duration_minutes"
_PART = re.compile(r"[^.\[\]]+")


def entries(text: str) -> list[Entry]:
    """The stored list."""
    found: list[Entry] = json.loads(text)
    return found


def flat(patch: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of a merge patch (RFC 7386) by dotted path; null takes a value away."""
    found: dict[str, Any] = {}
    for key, value in patch.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def put(document: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a document with these values in their places; `KeyError` for a place in a list that is not there."""
    changed = copy.deepcopy(dict(document))
    for path, value in values.items():
        *parents, name = _PART.findall(path)
        place: Any = changed
        for parent in parents:
            place = _inner(place, parent, path)
        _set(place, name, value, path)
    extra = changed.get("extra_parameters")
    if isinstance(extra, dict) and extra.get("engine") == "diffusion":
        changed["extra_parameters"] = without_options(extra, values)
    return changed


def _inner(place: Any, part: str, path: str) -> Any:
    if isinstance(place, list):
        return _item(place, part, path)
    if not isinstance(place.get(part), dict | list):
        place[part] = {}
    return place[part]


def _item(place: list[Any], part: str, path: str) -> Any:
    if not part.isdecimal() or int(part) >= len(place):
        raise KeyError(path)
    return place[int(part)]


def _set(place: Any, name: str, value: Any, path: str) -> None:
    if isinstance(place, list):
        _item(place, name, path)
        place[int(name)] = value
    else:
        place[name] = value


def document_of(original: str, changes: Sequence[Entry]) -> dict[str, Any]:
    """The document that the next run is built from: what resumes gave, and limits that hold for a whole attempt."""
    document: dict[str, Any] = json.loads(original)
    for entry in changes:
        kept = {k: v for k, v in entry["values"].items() if entry.get("resume") or k.startswith("resources.")}
        document = put(document, kept)
    return document


def for_run(changes: Sequence[Entry]) -> list[Entry]:
    """What a run repeats at the same steps: no value that was given anew, by a resume or from an earlier step on."""
    found = [(entry["step"] or 0, _repeated(changes, n)) for n, entry in enumerate(changes)]
    return [{"step": step, "values": values} for step, values in found if values]


def _repeated(changes: Sequence[Entry], n: int) -> dict[str, Any]:
    entry = changes[n]
    if entry.get("resume"):
        return {}
    step = entry["step"] or 0
    later = [other for other in changes[n + 1 :] if other.get("resume") or (other["step"] or 0) <= step]
    given_anew = {path for other in later for path in other["values"]}
    return {
        path: value
        for path, value in entry["values"].items()
        if path.startswith("tuning_parameters.") and path not in given_anew
    }


def recorded(changes: Sequence[Entry]) -> list[Entry]:
    """What has held and no run repeats: the job's document has it, the guard keeps it, or it was given anew since."""
    return list(_recorded(changes))


def _recorded(changes: Sequence[Entry]) -> Iterator[Entry]:
    for n, entry in enumerate(changes):
        step = entry["step"]
        if step is None:
            continue
        never_held = {
            path
            for other in changes[n + 1 :]
            if other["step"] is not None and other["step"] <= step
            for path in other["values"]
        }
        left_out = never_held | _repeated(changes, n).keys()
        if values := {path: value for path, value in entry["values"].items() if path not in left_out}:
            yield {"step": step, "values": values}


def deadline_of(changes: Sequence[Entry], before: float | None) -> float | None:
    """The deadline in minutes that a run begins with; `before`: the spec's, which knows the newest resume."""
    for entry in reversed(changes):
        if entry.get("resume"):
            break
        if DEADLINE in entry["values"]:
            return float(entry["values"][DEADLINE])
    return before


def settled(changes: Sequence[Entry], command_id: str, step: int | None) -> list[Entry]:
    """The list after the run took a change at `step`, or (None) refused it."""
    found = []
    for entry in changes:
        if entry["id"] != command_id:
            found.append(entry)
        elif step is not None:
            found.append({**entry, "step": step})
    return found


def value_at(request: Mapping[str, Any], changes: Sequence[Entry], path: str) -> Any:
    """The value that holds now: the newest that was taken, else the resolved request's."""
    for entry in reversed(changes):
        if entry["step"] is not None and path in entry["values"]:
            return entry["values"][path]
    place: Any = request
    for part in path.split("."):
        place = place.get(part) if isinstance(place, Mapping) else None
    return place


def unanswered(changes: Sequence[Entry]) -> list[Entry]:
    """What no run has taken yet."""
    return [entry for entry in changes if entry["step"] is None]
