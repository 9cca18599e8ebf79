"""Who a run is, what it may not show, and what other people's exceptions mean."""

import json
import logging
from pathlib import Path

import pytest

from common.exits import Exit
from common.folder import JobFolder, Pair
from trainyard.trainer.claim import Claim, Spec
from trainyard.trainer.failures import ConfigError, DiskFull, OutOfMemory, explained, from_source
from trainyard.trainer.secrets import MaskingFormatter, Secrets

GOOD = {"format": 1, "uid": "u", "job_id": "j", "engine": "text", "request": {}, "output": "/out", "threads": 10_000}


def claim(attempt):
    return Claim(attempt.folder, "u", attempt.pair, attempt.own)


def test_a_run_is_what_its_guard_says(attempt):
    environ = {"TRAINYARD_RUN": "uid.12.3", "TRAINYARD_ATTEMPT_DIR": str(attempt.own)}
    read = Claim.read(str(attempt.folder.path), environ)
    assert (read.uid, read.pair, read.own) == ("uid", Pair(12, 3), attempt.own)
    with pytest.raises(ConfigError, match="TRAINYARD_RUN must be"):
        Claim.read("x", {"TRAINYARD_ATTEMPT_DIR": str(attempt.own)})
    with pytest.raises(ConfigError, match="TRAINYARD_ATTEMPT_DIR must be"):
        Claim.read("x", {"TRAINYARD_RUN": "uid.1.0"})


def test_only_our_own_launcher_makes_a_run_one_of_several(attempt):
    environ = {"TRAINYARD_RUN": "uid.1.0", "TRAINYARD_ATTEMPT_DIR": str(attempt.own), "RANK": "1", "WORLD_SIZE": "2"}
    stranger = Claim.read("x", environ)
    assert (stranger.rank, stranger.size, stranger.launched) == (0, 1, False)
    ours = Claim.read("x", environ | {"TRAINYARD_LAUNCHED": "1"})
    assert (ours.rank, ours.size, ours.launched) == (1, 2, True)


def test_processes_share_the_threads(attempt, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(8))
    attempt.folder.spec.write_text(json.dumps(GOOD | {"options": {"processes": 3}}))
    spec = Spec.read(claim(attempt))
    assert (spec.processes, spec.threads) == (3, 2)
    attempt.folder.spec.write_text(json.dumps(GOOD | {"devices": ["0", "1"], "options": {"processes": 3}}))
    assert Spec.read(claim(attempt)).processes == 2


def test_a_good_spec_is_read_and_its_threads_are_clipped(attempt):
    attempt.folder.spec.write_text(json.dumps(GOOD | {"unknown": 1}))
    assert 1 <= Spec.read(claim(attempt)).threads < 10_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uid": "v"}, "is of job v"),
        ({"format": 2}, "reads format 1"),
        ({"output": "relative"}, "must be an absolute folder"),
        ({"output": None}, "can't be used"),
    ],
)
def test_a_spec_of_another_kind_is_refused(attempt, change, words):
    attempt.folder.spec.write_text(json.dumps(GOOD | change))
    with pytest.raises(ConfigError, match=words):
        Spec.read(claim(attempt))


def test_a_spec_that_is_no_json_is_refused(attempt):
    attempt.folder.spec.write_text("{")
    with pytest.raises(ConfigError, match="can't be used"):
        Spec.read(claim(attempt))


def test_secrets_are_read_masked_and_never_printed(tmp_path):
    record = {"values": {"a.token": "hunter2", "b": ""}, "env": {"KEY": "longer-hunter2", "N": "1"}, "job_token": None}
    (tmp_path / "secrets.4").write_text(json.dumps(record))
    secrets = Secrets.read(JobFolder(tmp_path), 4)
    assert secrets.get("b", "a.token") == "hunter2"
    assert "hunter2" not in repr(secrets)
    assert secrets.mask("1 longer-hunter2 hunter2") == "1 •••• ••••"
    assert Secrets.read(JobFolder(tmp_path), 5).get("a.token") is None


def test_the_log_masks_tracebacks_too():
    secrets = Secrets({}, ("hunter2",))
    try:
        raise ValueError("the word is hunter2")
    except ValueError as e:
        record = logging.LogRecord(
            "n", logging.ERROR, "p", 1, "it was %s", ("hunter2",), (ValueError, e, e.__traceback__)
        )
    text = MaskingFormatter(secrets).format(record)
    assert "ValueError" in text and "hunter2" not in text
    of_another = MaskingFormatter(secrets, rank=1).format(record)
    assert "[process 1] it was ••••" in of_another and "hunter2" not in of_another


def save_to_a_full_disk():
    try:
        Path("/dev/full").write_bytes(b"x")
    except OSError as e:
        raise RuntimeError("saving failed") from e


def test_a_full_disk_is_found_below_other_exceptions():
    with pytest.raises(RuntimeError) as raised:
        save_to_a_full_disk()
    assert isinstance(explained(raised.value), DiskFull)


def test_memory_and_hub_and_missing_files_are_told_apart():
    class OutOfMemoryError(RuntimeError):
        """As torch names it."""

    class GatedRepoError(OSError):
        """As the hub's client names it."""

    assert isinstance(explained(MemoryError()), OutOfMemory)
    assert isinstance(explained(OutOfMemoryError("CUDA out of memory")), OutOfMemory)
    assert isinstance(explained(RuntimeError("DefaultCPUAllocator: not enough memory: you tried")), OutOfMemory)
    assert explained(ValueError("something else")) is None
    assert from_source(GatedRepoError("no"), "m").exit == Exit.CREDENTIALS
    assert from_source(ValueError("unknown architecture"), "m").exit == Exit.MODEL
    assert from_source(MemoryError(), "m").exit == Exit.OUT_OF_MEMORY
