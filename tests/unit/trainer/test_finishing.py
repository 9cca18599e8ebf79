"""What is done of a checkpoint beside the training: it stands as a whole or not at all, and is told by the loop."""

import hashlib
import threading

import pytest

from common.folder import Pair
from trainyard.trainer.checkpoints import Checkpoints, complete
from trainyard.trainer.failures import Fenced
from trainyard.trainer.finishing import Finishing, Sums


@pytest.fixture
def kept(attempt, tmp_path):
    checkpoints = Checkpoints(tmp_path / "out", "me", attempt.pair, attempt.fence.check)
    checkpoints.claim()
    yield checkpoints
    checkpoints.finishing.settle()


def write(folder, sums):
    (folder / "model.bin").write_text("weights")
    return {"epoch": 0}


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


@pytest.mark.parametrize("at_once", [False, True])
def test_sums_are_those_of_the_files_whenever_they_were_begun(tmp_path, at_once):
    contents = {"early": b"e" * 10, "written": b"w" * 300_000, "sub/late": b"l"}
    (tmp_path / "sub").mkdir()
    sums = Sums(tmp_path, at_once=at_once)
    (tmp_path / "early").write_bytes(contents["early"])
    sums.begin(tmp_path / "early")
    with sums.open(tmp_path / "written") as file:
        assert file.write(memoryview(contents["written"])[:200_000]) == 200_000
        file.write(contents["written"][200_000:200_010])
        file.write(contents["written"][200_010:])
    (tmp_path / "sub" / "late").write_bytes(contents["sub/late"])
    assert sums.all() == {
        name: [len(content), hashlib.sha256(content).hexdigest()] for name, content in contents.items()
    }
    assert all((tmp_path / name).read_bytes() == content for name, content in contents.items())


def test_work_is_done_beside_and_what_follows_by_whoever_looks():
    finishing, go, seen = Finishing(), threading.Event(), []

    def work():
        go.wait(10)
        return threading.get_ident()

    finishing.begin(work, lambda worked: seen.append((worked, threading.get_ident())))
    finishing.look()
    assert seen == []
    go.set()
    finishing.settle()
    ((worked, told),) = seen
    assert worked != told == threading.get_ident()
    finishing.settle()
    finishing.look()
    assert len(seen) == 1


def test_what_goes_wrong_beside_is_raised_once_where_it_is_looked_for():
    finishing = Finishing()
    finishing.begin(lambda: 1 // 0, lambda _: pytest.fail("there is nothing to tell"))
    with pytest.raises(ZeroDivisionError):
        finishing.settle()
    finishing.settle()


def test_a_checkpoint_is_not_there_until_it_is_finished(kept):
    go, told = threading.Event(), []
    kept.begin(3, 0, write, later=lambda folder: (go.wait(10), (folder / "words").write_text("w")), then=told.append)
    kept.finishing.look()
    assert names(kept) == ["step-3.tmp-2.1"] and kept.newest() is None and told == []
    go.set()
    kept.finishing.settle()
    assert names(kept) == ["step-3"] and complete(kept.folder / "step-3")
    assert [done.step for done in told] == [3]
    assert set(told[0].record["files"]) == {"model.bin", "words"}


def test_the_next_one_waits_for_it(kept):
    told = []
    for step in (3, 4, 5):
        kept.begin(step, 0, write, later=lambda _: None, then=lambda done: told.append(done.step))
    assert told == [3, 4]
    assert kept.save(6, 0, lambda folder: write(folder, None)).step == 6
    assert told == [3, 4, 5]


@pytest.mark.parametrize("wrong", ["replaced", "full"])
def test_one_that_can_not_be_finished_leaves_nothing_and_is_told_to_nobody(kept, attempt, wrong):
    def later(_):
        if wrong == "full":
            raise OSError(28, "No space left on device")
        attempt.folder.raise_fence(Pair(3))

    kept.begin(3, 0, write, later=later, then=lambda _: pytest.fail("it does not stand"))
    with pytest.raises(OSError if wrong == "full" else Fenced):
        kept.finishing.settle()
    assert names(kept) == []


def test_who_asks_while_one_is_in_the_making_gets_the_next(attempt):
    control = attempt.control
    attempt.command({"id": "a", "command": "checkpoint"})
    control.poll()
    control.begun(3)
    assert control.saved_step == 3 and not control.checkpoint_wanted
    attempt.command({"id": "b", "command": "checkpoint"})
    control.poll()
    control.stands(3)
    assert control.checkpoint_wanted
    control.saved(5)
    answers = [(ack["id"], ack["message"]) for ack in attempt.data("ack")]
    assert answers == [("a", "checkpoint at step 3"), ("b", "checkpoint at step 5")]
