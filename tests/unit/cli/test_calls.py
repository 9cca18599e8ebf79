"""Commands against a real little service: what they print, and their exit status."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import unused_port

DOCUMENT = b'{"job_id": "j1",   "base_model": {"model_name": "m"}}'


@pytest.fixture
def document(tmp_path: Path) -> str:
    (tmp_path / "job.json").write_bytes(DOCUMENT)
    return str(tmp_path / "job.json")


async def test_submit_sends_the_bytes_of_the_file_and_says_what_comes_next(
    service: Any, trainyard: Any, document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await trainyard("submit", document) == 0
    said = capsys.readouterr()
    assert service.bodies == [DOCUMENT]
    assert "j1: accepted" in said.out and "events --follow j1" in said.out
    assert "warning: basemodel: unknown" in said.err
    assert await trainyard("submit", document) == 0
    assert "known already" in capsys.readouterr().out


@pytest.mark.parametrize(("end", "code"), [("succeeded", 0), ("failed", 1), ("cancelled", 3)])
async def test_the_outcome_of_a_followed_job_is_the_exit_status(
    service: Any, trainyard: Any, document: str, end: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    service.statuses = ["queued", "running", end]
    assert await trainyard("submit", document, "--follow") == code
    said = capsys.readouterr().out
    assert "step 2/9  loss 2.5" in said and f"is {end}" in said
    assert await trainyard("events", "--follow", "j1") == code
    assert await trainyard("logs", "--follow", "j1") == code


async def test_a_failed_job_shows_the_end_of_its_log_without_moving_the_cursor(
    service: Any, trainyard: Any, document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service.statuses = ["queued", "failed"]
    await trainyard("submit", "--follow", document)
    said = capsys.readouterr().out
    assert "[data] is failed\n    | a\n    | b [2J\n" in said


async def test_json_prints_the_documents_unchanged_one_a_line(
    service: Any, trainyard: Any, document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await trainyard("submit", document, "--follow", "--json") == 0
    job, *events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert job["job_id"] == "j1" and [e["id"] for e in events] == [1, 2, 3]
    assert await trainyard("--json", "list") == 0
    assert json.loads(capsys.readouterr().out) == {"jobs": [service.jobs["j1"]], "next_cursor": None}


async def test_a_refused_document_has_each_error_on_a_line(
    service: Any, trainyard: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.json").write_text('{"job_id": "x"}')
    assert await trainyard("submit", str(tmp_path / "bad.json"), "--json") == 4
    said = capsys.readouterr()
    assert said.err == "trainyard: base_model: is required\ntrainyard: datasets[0]: must be an object\n"
    assert json.loads(said.out)["error"]["code"] == "invalid_request"


async def test_validate_can_look_deep_and_says_what_it_found(
    service: Any, trainyard: Any, document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await trainyard("validate", "--deep", document) == 0
    assert capsys.readouterr().out.splitlines() == [
        "the document is valid",
        "data      1,200 rows, 34,567 tokens, 2.5% of the rows are cut",
        "longest   rows.jsonl:7 (900 tokens)",
        "model     25 of 1,000 parameters are trained (2.50%)",
        "modules   layers.*.q_proj",
        "memory    about 3.00 GiB at the peak of 8.00 GiB that are there (frozen weights 2.00 GiB, logits 500 MiB)",
        "steps     450",
        "",
        "rows.jsonl:1, learned is what stands in ⟦⟧:",
        "    Hi⏎⟦there [2J⟧",
    ]
    assert await trainyard("validate", "--deep", "--json", document) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 450


async def test_validate_reads_standard_input(
    service: Any, trainyard: Any, monkeypatch: pytest.MonkeyPatch, document: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(document).open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert await trainyard("validate", "-", "--strict", "--json") == 0
    assert service.bodies == [DOCUMENT]
    assert json.loads(capsys.readouterr().out)["strict"] == "true"


async def test_looks_are_readable(service: Any, trainyard: Any, capsys: pytest.CaptureFixture[str]) -> None:
    service.add("j1", "running")["progress"] = {"step": 3, "eta_seconds": 61.2, "tokens_per_second": 1234.5}
    service.jobs["j1"]["detail"] = "at\x1b[31m work"
    for argv in (["list"], ["show", "j1"], ["cancel", "j1"], ["backends"], ["logs", "j1"], ["events", "j1"]):
        assert await trainyard(*argv) == 0, argv
    said = capsys.readouterr().out
    assert "step 3  1234 tokens/s  eta 0:01:01" in said
    assert "labels       team=a" in said and "at [31m work" in said
    assert "j1: stopping" in said
    assert "gpu 1/2  ready" in said and "not ready: no module x" in said
    assert "one\ntwo\n" in said


async def test_each_way_to_fail_has_its_exit_status(
    service: Any, trainyard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await trainyard("show", "nobody") == 4
    assert "detail of not_found (404 not_found)" in capsys.readouterr().err
    assert await trainyard("submit", str(tmp_path / "missing.json")) == 2
    assert "no such file" in capsys.readouterr().err
    assert await trainyard("--url", "nowhere", "list") == 2
    assert await trainyard("list", "--url", f"http://127.0.0.1:{unused_port()}") == 5
    said = capsys.readouterr().err
    assert "connection refused" in said and "trainyard server" in said
