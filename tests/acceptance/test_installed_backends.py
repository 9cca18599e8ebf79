"""Backends of others, really installed and broken each in its way: the service starts, and says what is wrong."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.server import Server

pytestmark = pytest.mark.slow

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{package}"
version = "2.5"
[project.entry-points."trainyard.backends"]
{points}
[tool.setuptools]
py-modules = {modules}
"""
GOOD = """
from trainyard.backend import *
class Backend(BaseTrainerBackend):
    interface_version = 1
    name = "{name}"
    def validate_request(self, request): return []
    def build_job_spec(self, request): return JobSpec(engine="command", argv=("true",))
    async def submit(self, job, attempt, spec): return Handle(uid=job.uid, job_id=job.job_id, attempt=attempt)
    async def find(self, job, attempt): return None
    async def watch(self, handle, cursor): yield BackendEvent(what=RunEnded(code=0))
    async def cancel(self, handle, grace): pass
    async def capacity(self): return Capacity()
"""
TWINS = "2 packages claim the name 'twin': cluster-kit (kit_twin:Backend) and second-kit (kit_second:Backend)"
#: The name that is claimed → its module's source, and what is said of it in GET /backends.
BROKEN = {
    "lacking": ("import no_such_cluster_sdk", "cluster-kit 2.5: No module named 'no_such_cluster_sdk'"),
    "leaving": ("import sys\nsys.exit('no cluster')", "cluster-kit 2.5 failed to import: SystemExit: no cluster"),
    "old": (GOOD + "\n    interface_version = 0", "cluster-kit 2.5 is written for interface 0, this is 1"),
    "half": (GOOD.replace("async def find", "async def seek"), "abstract method"),
    "misnamed": (
        GOOD.replace("{name}", "another"),
        "has the name 'another', and is registered as 'misnamed'",
    ),
    "stumbling": (
        GOOD + "\n    async def capacity(self): return 1 / 0",
        "can't be asked: ZeroDivisionError",
    ),
    "vague": (
        GOOD + "\n    async def capacity(self): pass",
        "must return a Capacity, got NoneType",
    ),
    "twin": (GOOD, TWINS),
}


def project(folder: Path, package: str, sources: dict[str, tuple[str, str]]) -> str:
    """A project with a module for each key, which claims a name."""
    folder.mkdir()
    points = "\n".join(f'{name} = "kit_{key}:Backend"' for key, (name, _) in sources.items())
    modules = [f"kit_{key}" for key in sources]
    for key, (name, source) in sources.items():
        (folder / f"kit_{key}.py").write_text(source.replace("{name}", name))
    (folder / "pyproject.toml").write_text(PROJECT.format(package=package, points=points, modules=modules))
    return str(folder)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all of them installed by pip, from source; no index is asked."""
    place = tmp_path_factory.mktemp("packages")
    sources = [
        project(place / "first", "cluster-kit", {name: (name, source) for name, (source, _) in BROKEN.items()}),
        project(place / "second", "second-kit", {"second": ("twin", GOOD)}),
    ]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    argv = [*pip, "--no-build-isolation", "--target", str(place / "site"), *sources]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr
    return place / "site"


def rows(server: Server) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in server.get("/backends")["backends"]}


def test_broken_packages_are_listed_with_their_reason_and_stop_nothing(
    packages: Path, server: Server, monkeypatch: pytest.MonkeyPatch, document: Any
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(packages))
    server.start()
    found = rows(server)
    for name, (_, reason) in BROKEN.items():
        row = found[name]
        assert row.keys() == found["local"].keys()
        assert (row["healthy"], row["default"], row["simulated"]) == (False, False, False), row
        assert reason in row["reason"], row
        assert row["version"] == (None if name == "twin" else "2.5"), row
    assert found["lacking"]["capabilities"] == []
    assert found["lacking"]["capacity"] is None
    assert found["local"]["healthy"]
    assert found["local"]["default"]
    status, answer = server.request("POST", "/train", document() | {"backend": "twin"})
    assert status == 400
    assert "uninstall all but one" in answer["errors"][0]["message"]
    server.post(document("goes-on"))
    assert server.wait_end("goes-on")["status"] == "succeeded"


def test_each_row_has_the_fields_of_the_contract(server: Server) -> None:
    server.settings["BACKEND"] = "simulated"
    server.start()
    found = rows(server)
    fields = {"name", "version", "default", "simulated", "healthy", "reason", "capabilities", "capacity"}
    assert all(row.keys() == fields | {"options_schema"} for row in found.values())
    simulated = found["simulated"]
    assert (simulated["default"], simulated["simulated"], simulated["healthy"]) == (True, True, True)
    assert simulated["capacity"].keys() == {"total", "free", "devices"}
    assert simulated["options_schema"]["properties"]["outcome"]["enum"][:4] == ["succeeded", "failed", "hang", "lost"]
    assert not found["local"]["simulated"]
    assert {"pause", "resume", "logs"} <= set(found["local"]["capabilities"])
