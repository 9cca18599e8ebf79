"""Pages for people: links lead somewhere, paths exist, the tree of the README is true, pages stay short."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "deploy/**/*.md", "backends/*/*.md", "examples/*.md", "examples/data/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
TREE = re.compile(r"```text\n(trainyard/\n.*?)```", re.DOTALL)
FOREIGN = {"common/schemas.py", "docs/API_SPEC.md"}  # the usage guide's names, in the table of where one comes from
SOURCE = re.compile(r"`((?:schemas|common|backends|service|trainyard|tests|examples|deploy|docs|benchmarks)/[\w./-]+)`")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """The names that headings can be linked by, as the usual hosts make them."""
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(path: Path) -> None:
    broken = []
    for link in LINK.findall(text_of(path)):
        if "://" in link or link.startswith("mailto:"):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in anchors(text_of(target))):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(path: Path) -> None:
    assert [name for name in SOURCE.findall(text_of(path)) if name not in FOREIGN and not (ROOT / name).exists()] == []


def test_every_make_target_that_a_page_names_exists() -> None:
    targets = set(re.findall(r"^(\w+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    named = {name for path in PAGES for name in re.findall(r"(?:`|^)make (\w+)", text_of(path), re.MULTILINE)}
    assert named >= {"demo", "test", "install", "lint"}
    assert sorted(named - targets) == []


def tree() -> dict[str, str]:
    """The README's tree: paths and their remarks."""
    found = TREE.search(text_of(ROOT / "README.md"))
    assert found, "the README has a tree of the project, a ```text block that begins with trainyard/"
    paths, above = {}, [""]
    for line in found[1].splitlines()[1:]:
        name, _, remark = line.strip().partition("  ")
        depth = (len(line) - len(line.lstrip())) // 2
        del above[depth:]
        paths["".join(above) + name] = remark.strip()
        above.append(name if name.endswith("/") else "")
    return paths


def test_everything_in_the_tree_exists_and_has_a_remark() -> None:
    wrong = [path for path, remark in tree().items() if not remark or not (ROOT / path).exists()]
    wrong += [path for path in tree() if (ROOT / path).is_dir() != path.endswith("/")]
    assert wrong == []


def test_every_top_level_folder_is_in_the_tree() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a git checkout")
    folders = {line.split("/")[0] + "/" for line in listed.stdout.splitlines() if "/" in line}
    assert sorted(folders - tree().keys()) == []


def test_every_room_of_a_house_is_in_the_tree() -> None:
    houses = ("schemas", "common", "backends", "service", "trainyard")
    rooms = {f"{p.parent.relative_to(ROOT)}/" for house in houses for p in ROOT.glob(f"{house}/*/__init__.py")}
    assert sorted(rooms - tree().keys()) == []


@pytest.mark.parametrize(("name", "lines"), [("CONTRIBUTING.md", 150), ("docs/ARCHITECTURE.md", 300)])
def test_a_page_stays_short(name: str, lines: int) -> None:
    assert len(text_of(ROOT / name).splitlines()) < lines


def test_the_example_is_the_usage_guides_document() -> None:
    assert text_of(ROOT / "examples/usage_guide.json") == text_of(ROOT / "tests/data/usage_guide.json")


def test_the_changelog_has_the_version() -> None:
    version = re.search(r"^version = (\S+)$", text_of(ROOT / "setup.cfg"), re.MULTILINE)
    assert version
    assert f"## [{version[1]}]" in text_of(ROOT / "CHANGELOG.md")


def test_stopping_the_unit_leaves_runs_alone() -> None:
    unit = (ROOT / "deploy" / "systemd" / "trainyard.service").read_text()
    assert "\nKillMode=process\n" in unit
