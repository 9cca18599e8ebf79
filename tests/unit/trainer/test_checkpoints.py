"""A checkpoint is whole or it is not there."""

import json
import shutil
from pathlib import Path

import pytest

from common.folder import Pair
from trainyard.trainer.checkpoints import Checkpoints, complete
from trainyard.trainer.failures import ConfigError, DiskFull, Fenced


@pytest.fixture
def kept(attempt, tmp_path):
    checkpoints = Checkpoints(tmp_path / "out", "me", attempt.pair, attempt.fence.check)
    checkpoints.claim()
    return checkpoints


def write(folder, text="weights"):
    (folder / "model.bin").write_text(text)
    (folder / "sub").mkdir()
    (folder / "sub" / "more.txt").write_text("more")
    return {"epoch": 0}


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_a_saved_checkpoint_is_complete_and_lists_its_files(kept):
    done = kept.save(3, 0, write)
    assert names(kept) == ["step-3"] and complete(done.path)
    record = json.loads((done.path / "checkpoint.json").read_text())
    assert record["uid"] == "me" and record["attempt"] == "2.1" and record["step"] == 3
    assert {name: size for name, (size, _) in record["files"].items()} == {"model.bin": 7, "sub/more.txt": 4}
    assert done.bytes == 11


@pytest.mark.parametrize("harm", ["cut", "missing", "no record", "other bytes", "half a record"])
def test_a_damaged_checkpoint_is_passed_over_and_named(kept, harm, caplog):
    for step in (2, 10):
        kept.save(step, 0, write)
    bad = kept.folder / "step-10"
    if harm == "cut":
        (bad / "model.bin").write_text("weigh")
    elif harm == "missing":
        (bad / "sub" / "more.txt").unlink()
    elif harm == "no record":
        (bad / "checkpoint.json").unlink()
    elif harm == "other bytes":
        (bad / "model.bin").write_text("WEIGHTS")
    else:
        (bad / "checkpoint.json").write_text('{"format": 1, "uid": "me"')
    newest = kept.newest()
    assert newest is not None and newest.step == 2
    assert f"{bad} is passed over" in caplog.text


def test_a_half_written_folder_is_no_checkpoint_and_is_cleared_by_the_next_attempt(kept, attempt):
    for name in ("step-4.tmp-2.0", "step-4.old-1.0", "step-5.tmp-3.0"):
        (kept.folder / name).mkdir()
    assert kept.newest() is None
    kept.claim()
    assert names(kept) == ["step-5.tmp-3.0"], "what a newer attempt writes is left alone"


def test_a_step_that_exists_makes_way(kept):
    kept.save(3, 0, write)
    (kept.folder / "step-3" / "checkpoint.json").unlink()
    kept.save(3, 0, lambda folder: write(folder, "new"))
    assert names(kept) == ["step-3"]
    assert (kept.folder / "step-3" / "model.bin").read_text() == "new"


def test_a_run_that_was_replaced_while_it_wrote_renames_nothing(kept, attempt):
    def slow(folder):
        attempt.folder.raise_fence(Pair(3))
        return write(folder)

    with pytest.raises(Fenced):
        kept.save(3, 0, slow)
    assert names(kept) == []


def test_a_write_that_fails_leaves_nothing_half_done(kept):
    def fails(folder):
        write(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        kept.save(3, 0, fails)
    assert names(kept) == []


def test_free_disk_is_looked_at_first(kept):
    with pytest.raises(DiskFull, match="none was begun"):
        kept.save(3, 10**18, lambda _: pytest.fail("it was begun"))
    assert names(kept) == []


def test_the_oldest_are_pruned_by_number_not_by_name(kept):
    for step in (9, 10, 100):
        kept.save(step, 0, write)
    kept.prune(2)
    assert names(kept) == ["step-10", "step-100"]
    kept.prune(None)
    assert len(names(kept)) == 2


@pytest.mark.parametrize("where", ["manifest.json", "checkpoints/step-1/checkpoint.json"])
def test_the_folder_of_another_job_is_refused(kept, where):
    path = kept.output / where
    path.parent.mkdir(exist_ok=True)
    path.write_text('{"uid": "somebody else"}')
    with pytest.raises(ConfigError, match="work of another job"):
        kept.claim()


def test_a_folder_that_can_not_be_made_is_a_matter_of_configuration(kept, attempt):
    (kept.output / "file").write_text("")
    with pytest.raises(ConfigError, match="can't be made"):
        Checkpoints(kept.output / "file", "me", attempt.pair, attempt.fence.check).claim()


def test_the_one_that_makes_way_is_deleted_only_when_the_new_one_stands(kept, monkeypatch):
    kept.save(4, 0, write)
    standing = []
    real = shutil.rmtree

    def watched(path, **how):
        if ".old-" in Path(path).name and Path(path).exists():
            standing.append(complete(kept.folder / "step-4"))
        real(path, **how)

    monkeypatch.setattr(shutil, "rmtree", watched)
    kept.save(4, 0, lambda folder: write(folder, "new"))
    assert standing == [True]
    assert (kept.folder / "step-4" / "model.bin").read_text() == "new"
