"""`examples/custom_backend` as a stranger would: built, installed into an environment, served, used, and judged."""

import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_backend"
PROGRAM = "import os; print('niceness', os.nice(0), flush=True)"


def run(*argv: str, cwd: Path | None = None) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment over ours, with the example's wheel in it; no index is asked."""
    place = tmp_path_factory.mktemp("stranger")
    source = shutil.copytree(EXAMPLE, place / "source")
    offline = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    pip = (sys.executable, "-m", "pip")
    run(*pip, "wheel", *offline, "--no-build-isolation", "-w", str(place), str(source))
    venv.create(place / "env", symlinks=True)
    own = str(place / "env" / "bin" / "python")
    packages = Path(run(own, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    ours = [folder for folder in site.getsitepackages() if Path(folder).is_dir()]
    (packages / "ours.pth").write_text("".join(f"import site; site.addsitedir({folder!r})\n" for folder in ours))
    (wheel,) = place.glob("*.whl")
    run(*pip, "--python", own, "install", *offline, str(wheel))
    return own


def job(job_id: str, place: Path, *command: str) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "backend": "nice",
        "base_model": {"provider": "custom", "model_name": "none"},
        "resources": {"gpus": 0, "cpus": 1},
        "datasets": [{"source": "s3://bucket/rows.jsonl", "format": "jsonl"}],
        "artifacts": {"log_uri": str(place / "logs"), "output_uri": str(place / "results")},
        "extra_parameters": {"command": list(command)},
    }


def test_it_has_fewer_than_120_lines() -> None:
    assert len((EXAMPLE / "trainyard_nice.py").read_text().splitlines()) < 120


def test_it_imports_of_ours_what_outsiders_may() -> None:
    imports = [line for line in (EXAMPLE / "trainyard_nice.py").read_text().splitlines() if "import" in line.split()]
    assert [line for line in imports if line.startswith(("from common", "from backends", "from service"))] == []
    assert "import trainyard.backend as ty" in imports


def test_it_is_served_and_runs_a_job(python: str, server: Server, tmp_path: Path) -> None:
    server.python = python
    server.start()
    listed = {row["name"]: row for row in server.get("/backends")["backends"]}
    nice = listed["nice"]
    assert (nice["version"], nice["healthy"], nice["reason"], nice["default"]) == ("1.0", True, None, False)
    assert nice["capabilities"] == ["change", "checkpoint_now", "logs", "pause", "resume"]
    assert "niceness" in nice["options_schema"]["properties"]
    document = job("gentle", tmp_path, python, "-c", PROGRAM)
    document["extra_parameters"]["niceness"] = 7
    server.post(document)
    assert server.wait_end("gentle")["status"] == "succeeded"
    assert "niceness 7" in server.get("/train/gentle/logs")
    wrong = document | {"job_id": "wrong", "extra_parameters": {"niceness": 30}, "resources": {"gpus": 1}}
    status, answer = server.request("POST", "/train", wrong)
    assert status == 400
    assert {error["path"] for error in answer["errors"]} == {"extra_parameters.niceness"}


def test_it_passes_the_conformance_suite(python: str, tmp_path: Path) -> None:
    for name in ("test_conformance.py", "pyproject.toml"):
        shutil.copy(EXAMPLE / name, tmp_path)
    said = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_conformance.py", cwd=tmp_path)
    assert " passed" in said
    assert "skipped" not in said
    assert "warning" not in said


def test_where_programs_are_not_allowed_it_may_run_none(python: str, server: Server, tmp_path: Path) -> None:
    server.python = python
    server.settings["ALLOW_COMMAND"] = "false"
    server.start()
    status, answer = server.request("POST", "/train", job("forbidden", tmp_path, "true"))
    assert status == 400
    assert [error["path"] for error in answer["errors"]] == ["extra_parameters.command"]
    assert "TRAINYARD_ALLOW_COMMAND" in answer["errors"][0]["message"]
