"""The reference pages agree with the code: routes, events, settings, dependencies, backend options."""

import configparser
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from attrs import NOTHING, fields

from common.event import KINDS
from common.job import MOVES, Reason, state_diagram
from common.settings import Settings, variable
from docs import tables
from schemas.diffusion import definitions
from schemas.engine_options import ENGINES
from service.app import ROUTES

ROOT = Path(__file__).resolve().parents[2]


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", list(tables.pages()), ids=lambda path: path.name)
def test_the_printed_tables_are_those_of_the_code(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert tables.made(text) == text, "run: python docs/tables.py"


def test_the_pages_with_printed_tables_are_found() -> None:
    assert {path.name for path in tables.pages()} >= {"ARCHITECTURE.md", "EVENTS.md", "SETTINGS.md"}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_documented(route) -> None:
    said = f"`{route.path}`" if route.method == "*" else f"`{route.method} {route.path}`"
    assert said in page("docs/API.md")


def test_every_documented_call_is_a_route() -> None:
    known = {f"{route.method} {route.path}" for route in ROUTES}
    said = re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`?]*)`", page("docs/API.md"))
    assert set(said) <= known


@pytest.mark.parametrize("kind", KINDS)
def test_every_event_is_documented(kind: str) -> None:
    assert f"| `{kind}` |" in page("docs/EVENTS.md")


def test_every_event_class_says_what_happened() -> None:
    assert KINDS.keys() == MOVES.keys()
    assert [name for name, kind in KINDS.items() if not (kind.__doc__ or "").strip()] == []


def test_every_reason_is_documented() -> None:
    assert [reason for reason in Reason if f"`{reason}`" not in page("docs/EVENTS.md")] == []


def test_the_diagram_is_that_of_the_state_table() -> None:
    for name in ("docs/EVENTS.md", "docs/ARCHITECTURE.md"):
        assert state_diagram() in page(name)


@pytest.mark.parametrize("attribute", fields(Settings), ids=variable)
def test_every_setting_is_documented(attribute) -> None:
    assert f"| `{variable(attribute)}` |" in page("docs/SETTINGS.md")
    assert attribute.metadata["help"]


def test_every_dependency_is_explained() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    lists = [parser["options"]["install_requires"], *parser["options.extras_require"].values()]
    named = {re.split(r"[<>=!~\[; ]", line.strip())[0] for text in lists for line in text.splitlines() if line.strip()}
    text = page("docs/DEPENDENCIES.md")
    assert sorted(name for name in named - {"trainyard"} if f"`{name}`" not in text) == []


def test_every_option_of_every_backend_is_documented_with_its_default() -> None:
    for point in entry_points(group="trainyard.backends"):
        if not point.value.startswith("backends."):
            continue
        text = page(f"backends/{point.name}/README.md")
        assert "## Options" in text
        for option in fields(point.load().Options):
            default = option.default if option.default is not NOTHING else "required"
            assert f"| `{option.name}` | {str(default).lower()} |" in text, f"{point.name}: {option.name}"


def test_every_key_of_every_engine_is_documented_with_its_default() -> None:
    text = page("docs/API.md")
    assert ENGINES.keys() == {"text", "diffusion"}
    assert "### Keys of the text engine" in text and "(DIFFUSION.md#options)" in text
    for key in fields(ENGINES["text"]):
        assert f"| `{key.name}` | {str(key.default).lower()} |" in text, key.name


def test_every_option_of_the_diffusion_engine_is_documented_with_its_default_and_meaning() -> None:
    rows = {}
    for line in page("docs/DIFFUSION.md").splitlines():
        if line.startswith("| `") and line.count(" | ") == 3:
            names, default, *_, meaning = (cell.strip() for cell in line.strip("|").split("|"))
            rows.setdefault(names.split(",")[0].strip("`"), (names, default, meaning))
    for one in definitions():
        names, default, meaning = rows[one.name]
        assert all(f"`{name}`" in names for name in (one.name, *one.aliases))
        assert meaning.startswith(one.help)
        assert default in (f"`{one.default}`".replace("True", "true").replace("False", "false"), "none", "empty")
        assert (default == "none") == (one.default in (None, (), [])), one.name


def test_every_command_is_in_the_readme() -> None:
    done = subprocess.run([sys.executable, "-P", "-m", "trainyard.cli", "--help"], capture_output=True, text=True)
    commands = re.findall(r"^    ([a-z]+) {2,}\S", done.stdout, re.MULTILINE)
    assert len(commands) >= 9
    assert [name for name in commands if f"trainyard {name}" not in page("README.md")] == []
