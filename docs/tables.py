"""Prints the tables of these pages from the code: `python docs/tables.py` rewrites what lies between the marks."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import NOTHING, Attribute, fields

from common.event import KINDS, LIFECYCLE, Body, JobLog
from common.job import MOVES, Move, state_diagram
from common.settings import Settings, variable
from schemas.diffusion import Definition, definitions, later
from schemas.diffusion.dataloader import Entry
from schemas.diffusion.elsewhere import SAID_BY
from schemas.diffusion.option import GROUPS
from schemas.fields import choices, is_list, shape_of
from schemas.values import Secret

DOCS = Path(__file__).resolve().parent
_BLOCK = re.compile(r"(?s)(<!-- (\w+): made by `python docs/tables\.py` -->\n).*?(<!-- end -->)")
_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def events() -> str:
    """The table of events: every move, and what its event tells."""
    rows = [
        (f"`{kind}`", _sources(move), _target(move), _fields(KINDS[kind]), _yes(kind in LIFECYCLE), _about(KINDS[kind]))
        for kind, move in MOVES.items()
    ]
    return _table(("event", "from", "to", "`data`", "webhook", "what happened"), rows)


def diagram() -> str:
    """The moves that change the status, for Mermaid."""
    return f"```mermaid\n{state_diagram()}\n```"


def settings() -> str:
    """The table of settings."""
    rows = [(f"`{variable(a)}`", _default(a), a.metadata["help"]) for a in fields(Settings)]
    return _table(("setting", "default", "meaning"), rows)


def diffusion_options() -> str:
    """The options of the diffusion engine, a table for each group."""
    parts = []
    for group, title in GROUPS.items():
        rows = [_option(definition) for definition in definitions() if definition.group == group]
        if group == "service":
            rows = [
                (name, default, type_, f"{meaning}; said by {_said(name)}") for name, default, type_, meaning in rows
            ]
        parts.append(f"### {title}\n\n" + _table(("option", "default", "type", "meaning"), rows))
    return "\n\n".join(parts)


def dataloader() -> str:
    """The fields of an entry of the dataloader file."""
    rows = []
    for name, known in shape_of(Entry).fields.items():
        default = "required" if known.required else _json(known.default)
        rows.append((f"`{name}`", default, _kind(known.kind.bare, "object"), known.kind.doc))
    return _table(("field", "default", "type", "meaning"), rows)


def later_options() -> str:
    """What SimpleTuner has and this version refuses."""
    names = ", ".join(f"`{name}`" for name in sorted(later.OPTIONS.keys() - later.HINTS))
    beginnings = ", ".join(f"`{name}…`" for name in later.FAMILIES_OF_OPTIONS)
    entries = ", ".join(f"`{name}`" for name in sorted(later.ENTRIES.keys() - later.HINTS))
    return f"Options: {names}; and {beginnings}.\n\nFields of an entry: {entries}."


BLOCKS: Mapping[str, Callable[[], str]] = {
    "events": events,
    "diagram": diagram,
    "settings": settings,
    "diffusion_options": diffusion_options,
    "dataloader": dataloader,
    "later_options": later_options,
}


def made(text: str) -> str:
    """A page with its blocks as the code says."""
    return _BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}\n{found[3]}", text)


def pages() -> Iterator[Path]:
    """The pages that have such blocks."""
    return (page for page in sorted(DOCS.glob("*.md")) if _BLOCK.search(page.read_text(encoding="utf-8")))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _sources(move: Move) -> str:
    named = ["nothing" if s is None else f"{s[0]}/{s[1]}" if isinstance(s, tuple) else str(s) for s in move.sources]
    order = ["nothing", "queued", "running", "failed", "cancelled"]
    shown = ", ".join(sorted(named, key=lambda name: (order.index(name.partition("/")[0]), name)))
    return shown + "".join(f" (not {phase})" for phase in sorted(move.unless))


def _target(move: Move) -> str:
    if move.phase_named:
        return "the named phase"
    parts = [str(part) for part in (move.status, move.phase) if part is not None]
    return "/".join(parts) + (", next attempt" if move.new_attempt else "") or "–"


def _fields(kind: type[Body]) -> str:
    """The names in `data`; a `?` after one that is left out where it is not known."""
    if kind is JobLog:
        return "`message`?"
    shown = [
        f"`{a.name}`" + ("" if a.default is NOTHING or a.name in kind.always or a.default is not None else "?")
        for a in fields(kind)
        if a.name != "extra"
    ]
    return ", ".join(shown) or "–"


def _option(definition: Definition) -> tuple[str, str, str, str]:
    names = ", ".join(f"`{name}`" for name in (definition.name, *definition.aliases))
    if definition.choices:
        several = "list of " if definition.type == "list" else ""
        type_ = several + ", ".join(f"`{choice}`" for choice in definition.choices)
    else:
        type_ = " ".join(filter(None, (definition.type, definition.limits)))
    return names, _json(definition.default), type_, definition.help


def _said(name: str) -> str:
    field = SAID_BY[name.strip("`")]
    return f"`{field}`" if " " not in field else field


def _kind(bare: Any, other: str) -> str:
    words = {bool: "boolean", int: "integer", float: "number", str: "string"}
    if values := choices(bare):
        return ", ".join(f"`{value}`" for value in values)
    return "list" if is_list(bare) else words.get(bare, other)


def _json(value: Any) -> str:
    if value is None or value == () or value == []:
        return "none"
    return "empty" if value == "" else f"`{json.dumps(value)}`".replace('"', "")


def _about(kind: type[Body]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _default(setting: "Attribute[Any]") -> str:
    if setting.name == "data_dir":
        return "`~/.local/state/trainyard`"
    value = setting.default
    if value is None or isinstance(value, Secret):
        return "none"
    if setting.name.endswith("_bytes"):
        size, unit = next((size, unit) for size, unit in _UNITS if value % size == 0)
        return f"{value // size} {unit}"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    for page in pages():
        page.write_text(made(page.read_text(encoding="utf-8")), encoding="utf-8")
