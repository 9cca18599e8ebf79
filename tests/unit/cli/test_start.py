"""The command line before it talks to anyone: imports, usage, the names that must be ours, signals, pipes."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import trainyard as package
from trainyard.cli import main
from trainyard.cli.names import taken_names

ROOT = Path(package.__file__).resolve().parent.parent
RUN = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import trainyard.cli; sys.exit(trainyard.cli.main())"
HEAVY = {"aiohttp", "attrs", "attr", "cattrs", "torch", "rich", "asyncio", "service", "common", "schemas", "email"}


def python(code: str, *argv: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", *argv],
        capture_output=True, text=True, timeout=60, **options,
    )  # fmt: skip


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(flag: str) -> None:
    code = """
from trainyard.cli import main
try: main(sys.argv[1:])
except SystemExit as e: print(e.code, *sorted({m.partition(".")[0] for m in sys.modules}), file=sys.stderr)
"""
    code_and_modules = set(python(code, flag).stderr.split())
    assert "0" in code_and_modules
    assert code_and_modules & (HEAVY - ({"email"} if flag == "--version" else set())) == set()


def test_importing_the_package_costs_nothing_and_its_names_are_found_later() -> None:
    code = """
import trainyard
print(*sorted({m.partition(".")[0] for m in sys.modules}))
print(trainyard.Client.__module__, trainyard.BaseTrainerBackend.__module__, bool(trainyard.__version__))
"""
    modules, names = python(code).stdout.splitlines()
    assert set(modules.split()) & HEAVY == set()
    assert names == "trainyard.client common.backend True"
    with pytest.raises(AttributeError, match="it has APIError"):
        _ = package.nothing  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "required"),
        (["events", ".."], "letters or digits"),
        (["list", "--limit", "0"], "≥ 1"),
        (["list", "--status", "done"], "invalid choice"),
        (["server", "--port", "65536"], "0 to 65535"),
        (["--json", "server"], "calls to a running service"),
    ],
)
def test_wrong_usage_is_2(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_name_that_another_package_took_is_told_with_its_owner(tmp_path: Path) -> None:
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").touch()
    info = tmp_path / "thief-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thief\nVersion: 1.0\n")
    (info / "top_level.txt").write_text("common\n")
    code = f"sys.path.insert(0, {str(tmp_path)!r})\nfrom trainyard.cli import main\nsys.exit(main(['server']))"
    done = python(code)
    assert done.returncode == 70
    assert f"finds {tmp_path / 'common'} first, of the package thief" in done.stderr
    assert done.stderr.count("\n") == 1


def test_our_own_names_are_ours() -> None:
    assert taken_names() == []


def test_a_bad_setting_is_64(tmp_path: Path) -> None:
    code = "from trainyard.cli import main\nsys.exit(main(['server', '--data-dir', sys.argv[1]]))"
    done = python(code, str(tmp_path), env={**os.environ, "TRAINYARD_PORT": "many"})
    assert done.returncode == 64
    assert done.stderr == "trainyard: TRAINYARD_PORT must be an integer, got 'many'\n"


async def test_ctrl_c_leaves_the_job_alone_and_says_how_to_end_it(service: Any, tmp_path: Path) -> None:
    service.hold, service.statuses = True, ["queued", "running"]
    (tmp_path / "job.json").write_text('{"job_id": "j1", "base_model": {}}')
    # The tests themselves may run behind a shell's `&`, which ignores the signal for all below it.
    terminal = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", f"{terminal}; {RUN}"),
        *("submit", "--follow", str(tmp_path / "job.json")),
        stdout=-1, stderr=-1,
    )  # fmt: skip
    await asyncio.wait_for(service.streaming.wait(), 20)
    assert process.stdout is not None
    while b"step 2/9" not in await process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 130
    assert "the job j1 goes on" in err.decode() and "trainyard cancel j1" in err.decode()
    assert "Traceback" not in err.decode()


@pytest.mark.parametrize(
    "argv", [["list"], ["list", "--json"], ["events", "--follow", "j1"], ["logs", "j1"], ["--help"]]
)
async def test_a_reader_that_has_left_is_no_error(service: Any, argv: list[str]) -> None:
    service.add("j1")
    reader, writer = os.pipe()
    os.close(reader)
    process = await asyncio.create_subprocess_exec(sys.executable, "-P", "-c", RUN, *argv, stdout=writer, stderr=-1)
    os.close(writer)
    _, err = await asyncio.wait_for(process.communicate(), 20)
    assert err == b""
    assert process.returncode == 141 or argv == ["--help"]  # argparse itself is calm about it
