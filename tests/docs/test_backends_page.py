"""docs/BACKENDS.md agrees with the example that it walks through, and with what plug-ins may import."""

import re
from pathlib import Path

import pytest

import trainyard.backend
from trainyard.testing import BackendConformance, BackendFixtures

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "custom_backend"
PAGE = (ROOT / "docs" / "BACKENDS.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("block", re.findall(r"```(?:python|toml)\n(.*?)```", PAGE, re.DOTALL))
def test_what_is_shown_is_in_the_example(block: str) -> None:
    files = [path.read_text(encoding="utf-8") for path in sorted(EXAMPLE.glob("*.*"))]
    assert any(block in text for text in files)


def test_the_example_is_as_long_as_the_page_says() -> None:
    assert f"{len((EXAMPLE / 'trainyard_nice.py').read_text().splitlines())} lines" in PAGE


def test_what_plug_ins_import_is_what_the_page_lists() -> None:
    _, _, listed = PAGE.partition("## What `trainyard.backend` has")
    rows = re.findall(r"^\| [^|]+ \| (.*) \|$", listed, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(trainyard.backend.__all__)


def test_everything_to_override_is_there() -> None:
    members = {name for name in vars(BackendFixtures) if not name.startswith("_")}
    tests = {name for name in members if name.startswith("test_")}
    assert sorted(name for name in members - tests - {"service", "pytestmark"} if f"`{name}`" not in PAGE) == []


def test_every_promise_is_there() -> None:
    promises = [cls.__name__ for cls in BackendConformance.__bases__]
    assert len(promises) == 14
    assert [name for name in promises if f"`{name}`" not in PAGE] == []
