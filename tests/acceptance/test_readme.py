"""The README's commands, as a reader types them, against a real server."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server import Server, free_port

ROOT = Path(__file__).resolve().parents[2]
#: `<!-- run: words; words -->` before a block: it is run, and its output has all of the words.
BLOCK = re.compile(r"<!-- (run[\w ]*): ([^\n]*) -->\n```bash\n(.*?)```", re.DOTALL)
TOKEN = "of-the-test"
#: What a reader sees come before a pause of the README is long enough.
SEEN = {"sleep 3": "slow-1 running", "sleep 1": "slow-1 cancelled"}


def blocks(mark: str) -> list[tuple[list[str], str]]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [(words.split("; "), code) for kind, words, code in BLOCK.findall(text) if kind == mark]


class Reader:
    """Somebody with a checkout and a terminal: a folder with the examples in it, in which the server runs too."""

    def __init__(self, folder: Path, token: str | None = None) -> None:
        self.folder = folder
        self.server = Server(folder / "data", **({"TOKEN": token} if token else {}))
        self.hook_port = free_port()
        (folder / "examples").mkdir()
        for path in (ROOT / "examples").iterdir():
            if path.suffix == ".json":
                (folder / "examples" / path.name).write_text(path.read_text().replace("9000", str(self.hook_port)))
            else:
                (folder / "examples" / path.name).symlink_to(path)
        self.environ = {k: v for k, v in os.environ.items() if not k.startswith("TRAINYARD_")} | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TRAINYARD_URL": self.server.url,
            "NO_PROXY": "*",
            "no_proxy": "*",
            **({"TRAINYARD_TOKEN": token} if token else {}),
        }

    def types(self, code: str) -> str:
        """What a block prints; it must end well. Whatever it started is gone afterwards."""
        for old, new in (("9000", str(self.hook_port)), ("localhost:8001", f"127.0.0.1:{self.server.port}")):
            code = code.replace(old, new)
        code = re.sub(r"(?m)^sleep \d+$", _when_seen, code)
        printed = self.folder / "printed"
        with printed.open("wb") as output:
            shell = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", code],
                cwd=self.folder,
                env=self.environ | {"PRINTED": str(printed)},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            shell.wait(600)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
            shell.wait()
        assert shell.returncode == 0, f"{code}\n{printed.read_text()}"
        return printed.read_text()


def _when_seen(pause: re.Match[str]) -> str:
    return f"until grep -q '{SEEN[pause[0]]}' \"$PRINTED\"; do sleep 0.1; done\n{pause[0]}"


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    made = Reader(tmp_path)
    made.server.start()
    yield made
    made.server.end()


def check(reader: Reader, mark: str) -> None:
    found = blocks(mark)
    assert found, f"the README has no block marked {mark!r}"
    for words, code in found:
        printed = reader.types(code)
        assert [word for word in words if word not in printed] == [], f"{code}\n{printed}"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_commands_of_the_readme_do_what_it_says(reader: Reader) -> None:
    check(reader, "run")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readmes_job_that_trains_leaves_an_adapter(reader: Reader) -> None:
    pytest.importorskip("peft")
    check(reader, "run slowly")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_token_of_the_readme_opens_the_service(tmp_path: Path) -> None:
    reader = Reader(tmp_path, TOKEN)
    reader.server.start()
    try:
        check(reader, "run with a token")
    finally:
        reader.server.stop()


def test_every_command_block_is_run_or_known_not_to_be() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    marked = [code for _, _, code in BLOCK.findall(text)]
    others = [code for code in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if code not in marked]
    started_by_the_tests = [code for code in others if "make demo" in code or "trainyard server" in code]
    assert others == started_by_the_tests


def test_the_readmes_document_is_the_example() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"```json\n{(ROOT / 'examples/cpu_job.json').read_text()}```" in text
