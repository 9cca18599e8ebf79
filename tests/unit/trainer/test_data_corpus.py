"""Weights, streaming and preference rows: which rows an epoch takes, and how they are held."""

import gc
import tracemalloc
import weakref

import pytest

from tests.unit.trainer.materials import looked, material, texts, written
from trainyard.trainer.failures import DataError, Stopped
from trainyard.trainer.text.data import look


def numbered(path, rows):
    return written(path, [{"text": f"{path.stem} {i}"} for i in range(rows)])


@pytest.mark.parametrize(("weight", "counts"), [(1, {1: 101}), (2, {2: 101}), (0.5, {1: 50}), (1.5, {1: 51, 2: 50})])
@pytest.mark.parametrize("streaming", [False, True])
def test_rows_are_taken_in_proportion_and_keep_their_order(tmp_path, weight, counts, streaming):
    found = looked(numbered(tmp_path / "rows.jsonl", 101), weight=weight, streaming=streaming)
    times = [row.times for row in found.rows]
    assert {n: times.count(n) for n in set(times)} == counts
    assert [row.number for row in found.rows] == sorted(row.number for row in found.rows)
    assert len(found.rows) == len(times)


def test_the_share_is_seeded_and_the_same_when_it_is_streamed(tmp_path):
    path = numbered(tmp_path / "rows.jsonl", 100)
    first = texts(look([material(path, weight=0.3)], seed=1))
    assert (
        first == texts(look([material(path, weight=0.3)], seed=1)) != texts(look([material(path, weight=0.3)], seed=2))
    )
    assert first == texts(look([material(path, weight=0.3, streaming=True)], seed=1))


def test_a_dataset_of_little_weight_keeps_a_row(tmp_path):
    assert len(looked(numbered(tmp_path / "one.jsonl", 1), weight=0.1).rows) == 1


def test_a_streamed_dataset_gives_the_same_rows_and_findings_as_one_that_is_held(tmp_path):
    rows = [{"text": f"row {i}"} for i in range(50)] + [{}, {"text": ""}, {"prompt": "p", "completion": "c"}]
    a, b = written(tmp_path / "a.jsonl", rows), numbered(tmp_path / "b.jsonl", 7)
    held = look([material(a), material(b)], on_bad_row="skip")
    streamed = look([material(a, streaming=True), material(b)], on_bad_row="skip")
    assert list(held.rows) == list(streamed.rows) == list(streamed.rows) and len(held.rows) == len(streamed.rows) == 58
    assert (held.sources, held.skipped, held.without_target) == (
        streamed.sources,
        streamed.skipped,
        streamed.without_target,
    )
    assert streamed.rows[51] == held.rows[51] and streamed.rows[-3:] == list(held.rows[-3:])
    assert streamed.rows[:0] == [] and streamed.streaming and not held.streaming
    with pytest.raises(IndexError):
        streamed.rows[58]


@pytest.mark.parametrize("change", [lambda p: p.write_text(""), lambda p: p.write_text(p.read_text() * 2)])
def test_a_streamed_file_that_changes_meanwhile_is_noticed(tmp_path, change):
    path = numbered(tmp_path / "rows.jsonl", 10)
    found = looked(path, streaming=True)
    change(path)
    with pytest.raises(DataError, match="first look"):
        list(found.rows)


def test_streaming_holds_no_more_for_more_rows(tmp_path):
    few = written(tmp_path / "few.jsonl", ({"text": "x" * 500 + str(i)} for i in range(1_000)))
    many = written(tmp_path / "many.jsonl", ({"text": "x" * 500 + str(i)} for i in range(10_000)))

    def peak(path, streaming):
        tracemalloc.start()
        count = sum(1 for _ in looked(path, streaming=streaming).rows)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return count, most

    assert peak(many, True)[0] == peak(many, False)[0] == 10_000
    streamed = peak(many, True)[1]
    assert streamed < 1.2 * peak(few, True)[1] and 5 * streamed < peak(many, False)[1]


def test_a_stop_is_looked_for_while_rows_are_read(tmp_path):
    def stop():
        raise Stopped(False, "SIGTERM")

    with pytest.raises(Stopped):
        look([material(numbered(tmp_path / "rows.jsonl", 3))], check=stop)


def test_preference_rows_are_for_preference_objectives_alone(tmp_path):
    path = written(tmp_path / "pairs.jsonl", [{"prompt": "p", "chosen": "a", "rejected": "b"}, {"text": "t"}])
    with pytest.raises(DataError, match=r"pairs\.jsonl:1: is a preference row"):
        looked(path)
    with pytest.raises(DataError, match=r"pairs\.jsonl:2: has no chosen and rejected"):
        looked(path, objective="dpo")
    found = looked(path, objective="dpo", on_bad_row="skip", weight=2)
    assert found.kinds == {"preference"}
    assert [(row.value, row.times) for row in found.rows] == [(("p", "a", "b"), 2)]


def test_rows_are_forgotten_one_by_one_as_they_are_spent(tmp_path):
    corpus = looked(written(tmp_path / "rows.jsonl", [{"text": f"row {n}"} for n in range(5)]))
    held = [weakref.ref(row) for row in corpus.rows]
    spent = corpus.spend_rows()
    assert [next(spent).value for _ in range(3)] == ["row 0", "row 1", "row 2"]
    gc.collect()
    assert [one() is None for one in held] == [True, True, True, False, False] and corpus.rows == ()
    assert [row.value for row in spent] == ["row 3", "row 4"] and len(corpus.sources) == 1


def test_streamed_rows_can_be_gone_through_again(tmp_path):
    corpus = looked(written(tmp_path / "rows.jsonl", [{"text": "a"}, {"text": "b"}]), streaming=True)
    assert [row.value for row in corpus.spend_rows()] == texts(corpus) == ["a", "b"]
