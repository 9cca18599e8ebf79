"""Prints the tables of these pages from the code: `python docs/tables.py` rewrites what lies between the marks."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import NOTHING, Attribute, fields

from common.event import KINDS, LIFECYCLE, Body, JobLog
from common.job import MOVES, Move, state_diagram
from common.settings import Settings, variable
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


BLOCKS: Mapping[str, Callable[[], str]] = {"events": events, "diagram": diagram, "settings": settings}


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
