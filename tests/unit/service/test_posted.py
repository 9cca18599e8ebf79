"""What runs post: the longest prefix is taken, and lies in the run's file as if it had written it."""

import json
from pathlib import Path
from typing import Any

import pytest

from common.errors import Conflict, Over, Unavailable
from common.folder import JobFolder, Pair
from service.posted import Posted


def item(n: object, kind: str = "progress", **data: object) -> dict[str, Any]:
    return {"n": n, "type": kind, "at": "2026-01-31T12:00:00Z", "data": data or {"step": n}}


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    made = JobFolder(tmp_path / "job")
    made.make({"uid": "u"}, 1, None)
    made.attempt(Pair(1)).mkdir(parents=True)
    return made


def lines(folder: JobFolder) -> list[dict[str, Any]]:
    path = folder.attempt(Pair(1)) / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_items_are_appended_once(folder: JobFolder) -> None:
    posted = Posted()
    assert posted.take(folder, 1, [item(1), item(2)]).through == 2
    assert posted.take(folder, 1, [item(1), item(2), item(3)]).through == 3
    assert posted.take(folder, 1, [item(2)]).through == 3
    assert posted.take(folder, 1, []).through == 3
    assert [(line["n"], line["posted"], line["data"]) for line in lines(folder)] == [
        (n, n, {"step": n}) for n in (1, 2, 3)
    ]


BAD: list[tuple[object, str, str]] = [
    (item(4), "[1].n", "must be 2, the next one; got 4"),
    ("text", "[1]", "must be an object"),
    (item("2"), "[1].n", "an integer ≥ 1"),
    (item(True), "[1].n", "an integer ≥ 1"),
    (item(0), "[1].n", "an integer ≥ 1"),
    ({**item(2), "format": 9}, "[1].format", "must be 1"),
    ({**item(2), "type": 5}, "[1].type", "a string"),
    ({**item(2), "at": 12}, "[1].at", "RFC 3339"),
    ({**item(2), "data": []}, "[1].data", "an object"),
    (item(2, step="two"), "[1].data.step", "integer"),
    (item(2, "ack", id="c"), "[1].data", "an ack has"),
    (item(2, "log", message="x" * 70_000), "[1]", "an event may have 65536"),
]


@pytest.mark.parametrize(("bad", "path", "words"), BAD, ids=[path + words for _, path, words in BAD])
def test_a_hole_or_a_bad_item_stops_there(folder: JobFolder, bad: object, path: str, words: str) -> None:
    taken = Posted().take(folder, 1, [item(1), bad, item(3)])
    assert taken.through == 1
    assert taken.error is not None
    assert (taken.error["n"], taken.error["path"]) == (2, path)
    assert words in str(taken.error["message"])
    assert [line["n"] for line in lines(folder)] == [1]


def test_an_unknown_type_is_kept_and_a_missing_time_is_the_services(folder: JobFolder) -> None:
    assert Posted().take(folder, 1, [{"n": 1, "type": "spectrum", "data": {"x": 1}}]).through == 1
    assert lines(folder)[0]["type"] == "spectrum"
    assert lines(folder)[0]["at"].endswith("Z")


def test_another_service_goes_on_where_the_one_before_was_killed_in_the_middle_of_a_line(folder: JobFolder) -> None:
    Posted().take(folder, 1, [item(n) for n in range(1, 2001)])
    path = folder.attempt(Pair(1)) / "events.jsonl"
    with path.open("a") as file:
        file.write('{"format":1,"n":2001,"type":"prog')
    assert Posted().take(folder, 1, [item(2000), item(2001)]).through == 2001
    assert [line["n"] for line in lines(folder)] == list(range(1, 2002))


def test_numbers_of_the_run_and_of_its_file_are_apart(folder: JobFolder) -> None:
    path = folder.attempt(Pair(1)) / "events.jsonl"
    path.write_text(json.dumps({"format": 1, **item(1)}) + "\n")
    posted = Posted()
    posted.progress(folder, 1, {"percent": 50, "total_steps": 8})
    assert posted.take(folder, 1, [item(1)]).through == 1
    assert [(line["n"], line.get("posted"), line["data"]["step"]) for line in lines(folder)] == [
        (1, None, 1),
        (2, None, 4),
        (3, 1, 1),
    ]


def test_a_file_that_can_not_be_gone_on_with_is_told(folder: JobFolder) -> None:
    path = folder.attempt(Pair(1)) / "events.jsonl"
    posted = Posted()
    posted.take(folder, 1, [item(1)])
    with path.open("a") as file:
        file.write("{")
    with pytest.raises(Unavailable):
        posted.take(folder, 1, [item(2)])
    with path.open("a") as file:
        file.write("}\n")
    with pytest.raises(Conflict, match="not both"):
        posted.take(folder, 1, [item(2)])


def test_commands_of_the_run_are_repeated_until_it_acknowledges_them(folder: JobFolder) -> None:
    folder.command(Pair(1), {"id": "c1", "command": "checkpoint"})
    folder.command(Pair(2), {"id": "c2", "command": "checkpoint"})
    folder.command(Pair(1), {"id": "c3", "command": "change", "values": {"tuning_parameters.max_steps": 5}})
    posted = Posted()
    change = {"id": "c3", "command": "change", "values": {"tuning_parameters.max_steps": 5}}
    for _ in range(2):
        assert posted.take(folder, 1, []).commands == [{"id": "c1", "command": "checkpoint"}, change]
    assert posted.take(folder, 1, [item(1, "ack", id="c1", ok=True)]).commands == [change]
    assert Posted().take(folder, 1, []).commands == [change]


def test_a_run_that_is_over_is_told_so(folder: JobFolder) -> None:
    posted = Posted()
    posted.take(folder, 1, [item(1)])
    (folder.attempt(Pair(1)) / "exit.json").write_text("{}")
    with pytest.raises(Over):
        posted.take(folder, 1, [])
    folder.raise_fence(Pair(2))
    with pytest.raises(Over):
        posted.progress(folder, 1, {})
    with pytest.raises(Unavailable):
        posted.take(folder, 2, [])
    with pytest.raises(Over):
        posted.take(JobFolder(folder.path / "none"), 1, [])
