"""The structure that the design promises: arrows of import, sizes, and what no module may contain."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOUSES = ("schemas", "common", "backends", "service", "trainyard")
HEAVY = frozenset({"torch", "transformers", "accelerate", "peft", "safetensors", "tokenizers", "numpy", "datasets"})
STORAGE = frozenset({"obstore", "boto3", "botocore"})  # the extra `storage`, imported by whoever opens a bucket

#: What a module may import of ours, by the longest prefix of its name: the arrows, and each exception with its reason.
ARROWS = {
    "schemas": {"schemas"},
    "common": {"common", "schemas"},
    "backends": {"backends.registry", "common", "schemas"},
    "backends.engines": {"backends.engines", "common", "schemas"},
    "backends.runs": {"backends.runs", "common", "schemas"},
    # These start the guard's file.
    "backends.local": {"backends.local", "backends.engines", "backends.runs", "common", "schemas", "trainyard.guard"},
    "backends.slurm": {"backends.slurm", "backends.engines", "backends.runs", "common", "schemas", "trainyard.guard"},
    "backends.simulated": {"backends.simulated", "common", "schemas"},
    "service": {"service", "backends.registry", "common", "schemas"},
    "trainyard": {"trainyard", "common.backend"},  # the promised name `trainyard.BaseTrainerBackend`
    "trainyard.backend": {"common", "schemas", "backends.runs", "backends.local.client"},  # the door for plug-ins
    "trainyard.testing": {"trainyard.testing", "trainyard.guard", "common", "schemas", "service"},
    "trainyard.client": {"trainyard"},
    "trainyard.cli": {"trainyard", "service.main", "common", "schemas"},
    "trainyard.guard": {"trainyard.guard_control", "trainyard.guard_processes"},
    "trainyard.guard_control": set(),
    "trainyard.guard_processes": set(),
    "trainyard.trainer": {"trainyard.trainer", "common", "schemas"},
}
#: Within the service: who knows nothing of whom. Packages of others count too.
APART = {
    "service.operations": {"aiohttp", "sqlite3", "aiosqlite", "service.api", "service.store.sqlite"},
    "service.api": {"sqlite3", "aiosqlite", "service.store.sqlite", "service.store.writer"},
    "service.store": {"aiohttp", "service.api", "service.operations", "service.parts", "backends"},
    "service.bus": {"aiohttp"},
    "service.dispatch": {"aiohttp", "sqlite3"},
    "service.watch": {"aiohttp", "sqlite3"},
    "common": {"aiohttp", "sqlite3"},
    "schemas": {"aiohttp", "sqlite3", "structlog"},
}
MODULE_LINES = 500
FUNCTION_LINES = 80
#: Longer functions, each with its limit and its reason. This list can only shrink.
LONGER = {
    ("trainyard/trainer/text/train.py", "train"): 150,  # a training loop reads from top to bottom in one piece
    ("trainyard/trainer/diffusion/train.py", "train"): 150,  # the same
}
VAGUE = {"utils", "util", "helpers", "helper", "misc", "manager", "tools"}


@cache
def modules() -> dict[str, tuple[Path, ast.Module]]:
    """Every module of the houses by its dotted name."""
    found = {}
    for path in sorted(path for house in HOUSES for path in (ROOT / house).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = (path, ast.parse(path.read_text(encoding="utf-8")))
    return found


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """What a module imports anywhere in it, with lines; `from a import b` is `a.b` where that is a module of ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: imports name their house"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield node.lineno, whole if whole in modules() else str(node.module)


def within(name: str, rooms: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def told(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(problems)


def test_imports_go_along_the_arrows() -> None:
    problems = []
    for name, (path, tree) in modules().items():
        room = max((room for room in ARROWS if within(name, {room})), key=len)
        problems += [
            f"{path.relative_to(ROOT)}:{line}: {name} may not import {imported}"
            for line, imported in imports(tree)
            if imported.partition(".")[0] in HOUSES and not within(imported, ARROWS[room])
        ]
    told(problems)


def test_rooms_that_are_apart_know_nothing_of_each_other() -> None:
    told(
        [
            f"{path.relative_to(ROOT)}:{line}: {room} may not import {imported}"
            for name, (path, tree) in modules().items()
            for room, strangers in APART.items()
            if within(name, {room})
            for line, imported in imports(tree)
            if within(imported, strangers)
        ]
    )


def test_the_guard_is_of_the_standard_library_alone() -> None:
    own = {name: tree for name, (_, tree) in modules().items() if name.startswith("trainyard.guard")}
    found = {imported for tree in own.values() for _, imported in imports(tree)} - own.keys()
    assert "trainyard.guard_processes" in own
    told([name for name in sorted(found) if name.partition(".")[0] not in sys.stdlib_module_names])


def test_training_libraries_are_imported_by_the_trainer_alone() -> None:
    told(
        [
            f"{path.relative_to(ROOT)}:{line}: {imported}"
            for name, (path, tree) in modules().items()
            if not within(name, {"trainyard.trainer"})
            for line, imported in imports(tree)
            if imported.partition(".")[0] in HEAVY
        ]
    )


def test_the_conformance_suite_is_imported_by_nobody_and_alone_imports_pytest() -> None:
    rest = {name: tree for name, (_, tree) in modules().items() if not within(name, {"trainyard.testing"})}
    own = {"trainyard.testing", "pytest", "pytest_asyncio"}
    told([f"{name}:{line}" for name, tree in rest.items() for line, found in imports(tree) if within(found, own)])


def test_service_and_command_line_start_where_no_training_library_can_be_imported() -> None:
    code = f"""
import sys
for name in {sorted(HEAVY | STORAGE)!r}:
    sys.modules[name] = None
import service.main, service.app, trainyard.cli, trainyard.client
from importlib.metadata import entry_points
print(*sorted(point.load().name for point in entry_points(group="trainyard.backends")))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {"local", "simulated"} <= set(done.stdout.split())


def test_help_answers_at_once_and_needs_no_package_of_others() -> None:
    code = """
import sys, time
from trainyard.cli import main
try: main(["--help"])
except SystemExit: pass
print(time.process_time(), *sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    seconds, *loaded = done.stderr.split()
    assert float(seconds) < 0.4
    assert not {name.partition(".")[0] for name in loaded} & (HEAVY | {"aiohttp", "attr", "attrs", "cattrs", "service"})


def test_no_module_is_longer_than_it_may_be() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path, _ in modules().values()}
    told([f"{path}: {length} lines" for path, length in lengths.items() if length > MODULE_LINES])


def test_no_function_is_longer_than_it_may_be() -> None:
    problems, seen = [], set()
    for path, tree in modules().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                known = (str(path.relative_to(ROOT)), node.name)
                if length > FUNCTION_LINES and known in LONGER:
                    seen.add(known)
                if length > LONGER.get(known, FUNCTION_LINES):
                    problems.append(f"{path}:{node.lineno}: {node.name} has {length} lines")
    problems += [f"{name} is short enough now: take it off LONGER" for name in LONGER.keys() - seen]
    told(problems)


def test_no_exception_is_swallowed_or_loses_its_cause() -> None:
    problems = []
    for path, tree in modules().values():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            broad = isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")
            if node.type is None:
                problems.append(f"{where}: a bare except")
            elif broad and all(isinstance(inner, ast.Pass | ast.Continue) for inner in node.body):
                problems.append(f"{where}: swallows every exception")
            problems += [
                f"{path.relative_to(ROOT)}:{inner.lineno}: raise … from the cause"
                for statement in node.body
                for inner in ast.walk(statement)
                if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call) and inner.cause is None
            ]
    told(problems)


@pytest.mark.parametrize("word", ["raise NotImplementedError", "TO" + "DO", "FIX" + "ME"])
def test_nothing_is_left_for_later(word: str) -> None:
    told([str(path) for path, _ in modules().values() if word in path.read_text(encoding="utf-8")])


def test_every_module_says_what_it_is() -> None:
    told([str(path) for path, tree in modules().values() if tree.body and ast.get_docstring(tree) is None])


def test_modules_are_named_after_things() -> None:
    told([str(path) for name, (path, _) in modules().items() if VAGUE & set(name.split("."))])
