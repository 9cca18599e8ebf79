"""`attempt`: the folder of a claimed attempt, and what a run builds on it; `web`: a server to download from."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from common.folder import JobFolder, Pair
from tests.https import Web, web_server
from trainyard.trainer.claim import Fence
from trainyard.trainer.control import Control
from trainyard.trainer.ranks import Ranks
from trainyard.trainer.reporting import Reporter


@frozen
class Attempt:
    folder: JobFolder
    pair: Pair
    own: Path
    fence: Fence
    report: Reporter
    control: Control

    def events(self):
        text = (self.own / "events.jsonl").read_text()
        assert text == "" or text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def data(self, kind):
        return [event["data"] for event in self.events() if event["type"] == kind]

    def command(self, line):
        with self.folder.control.open("a") as file:
            file.write(
                line if isinstance(line, str) else json.dumps({"format": 1, "attempt": str(self.pair)} | line) + "\n"
            )


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server on `localhost` that what is tested trusts."""
    with web_server(tmp_path) as made:
        monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
        monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
        yield made


@pytest.fixture
def attempt(tmp_path: Path) -> Attempt:
    folder, pair = JobFolder(tmp_path / "job"), Pair(2, 1)
    own = folder.attempt(pair)
    own.mkdir(parents=True)
    folder.raise_fence(pair)
    fence = Fence(folder, pair)
    report = Reporter(own, fence.check)
    return Attempt(folder, pair, own, fence, report, Control(folder.control, pair, report))


@pytest.fixture
def ranks(tmp_path: Path) -> Ranks:
    (tmp_path / "ranks").mkdir()
    return Ranks.of(tmp_path)


@pytest.fixture
def full_disk(attempt: Attempt) -> Attempt:
    """As `attempt`, but the events go to a device that is always full."""
    (attempt.own / "events.jsonl").unlink()
    (attempt.own / "events.jsonl").symlink_to("/dev/full")
    report = Reporter(attempt.own, attempt.fence.check)
    return Attempt(attempt.folder, attempt.pair, attempt.own, attempt.fence, report, attempt.control)
