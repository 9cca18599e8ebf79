"""Reading a growing event file, and the last words in it."""

import json
from pathlib import Path

import pytest

from backends.runs.events import LastWords, last_words
from backends.runs.logtail import log_tail
from backends.runs.run import Run
from common.event_file import EventFile
from common.folder import JobFolder, Pair


def line(n: int, kind: str = "progress", **data: object) -> bytes:
    return json.dumps({"format": 1, "n": n, "type": kind, "at": "t", "data": data}).encode() + b"\n"


@pytest.mark.parametrize(
    "tail",
    [
        b'{"n": 2, "type": "log"',
        b"\0\0\0\0\n",
        b"no JSON\n",
        b"[2]\n",
        b'{"n": true, "type": "log", "data": {}}\n',
        b'{"n": 2, "type": "log", "data": []}\n',
        line(3),
        line(1),
    ],
)
def test_a_bad_tail_means_not_yet(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line(1, step=1) + tail)
    file = EventFile(path)
    assert [found.n for found in file.read()[0]] == [1]
    assert file.read() == ([], False)
    assert file.offset == len(line(1, step=1))
    assert file.unread() == len(tail)
    path.write_bytes(line(1, step=1) + line(2, step=2))
    assert [found.n for found in file.read()[0]] == [2]
    assert file.unread() == 0


def test_a_file_that_is_not_there_yet_is_empty(tmp_path: Path) -> None:
    assert EventFile(tmp_path / "none").read() == ([], False)
    assert EventFile(tmp_path / "none").unread() == 0
    assert last_words(tmp_path / "none") == LastWords()


def test_a_long_file_is_read_in_parts_from_wherever_one_left_off(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(line(n, step=n, text="x" * 100) for n in range(1, 10_001)))
    read = EventFile(path)
    numbers: list[int] = []
    parts = 0
    more = True
    while more:
        found, more = read.read()
        numbers += [item.n for item in found]
        parts += 1
        read = EventFile(path, read.n, read.offset)
    assert numbers == list(range(1, 10_001))
    assert parts > 3


def test_the_last_words_are_the_end_or_the_newest_step(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(line(n, step=n, text="x" * 100) for n in range(1, 5_001)) + b'{"cut off')
    assert last_words(path) == LastWords(step=5_000)
    with path.open("ab") as file:
        file.write(
            b"\n" + line(5_001, "log", level="error", exit_code=65, message="line 7") + line(5_002, "end", step=7)
        )
    assert last_words(path) == LastWords(step=7, error="line 7", exit_code=65)


def test_the_log_tail_is_of_one_attempt_and_short(tmp_path: Path) -> None:
    run = Run(JobFolder(tmp_path), "ab", Pair(2))
    assert log_tail(run) is None
    run.folder.log.write_text("── attempt 1.0 ── t ──\nold\n── attempt 2.0 ── t ──\nnew\n")
    assert log_tail(run) == "new"
    run.folder.log.write_text("── attempt 2.0 ── t ──\n" + "ä" * 100_000 + "\nlast\n")
    tail = log_tail(run) or ""
    assert tail.endswith("ä\nlast")
    assert len(tail.encode()) <= 8 << 10


def test_the_log_tail_shows_no_secret(tmp_path: Path) -> None:
    run = Run(JobFolder(tmp_path), "ab", Pair(1))
    run.folder.log.write_text("Authorization: Bearer hf_abc and s3cret-value\n")
    secrets = {"values": {"a": "hf_abc", "b": "x"}, "env": {"E": "s3cret-value", "F": "and"}, "job_token": None}
    run.folder.secrets(1).write_text(json.dumps(secrets))
    assert log_tail(run) == "Authorization: Bearer •••• and ••••"
