"""Examples in memory and in files are the same ones, and hold no more memory for more of them."""

import tracemalloc
from contextlib import closing

import numpy as np
import pytest

from trainyard.trainer.text.tokens.batches import split
from trainyard.trainer.text.tokens.examples import Writer


def made(folder=None, rows=20, times=lambda row: 1, length=lambda row: row % 5 + 2):
    """Rows of their own number."""
    with closing(Writer(folder)) as writer:
        for row in range(rows):
            tokens = length(row)
            writer.add([row] * tokens, [False] + [True] * (tokens - 1), times(row))
            if row % 7 == 0:
                writer.flush()
        return writer.examples()


@pytest.mark.parametrize("mapped", [False, True])
def test_rows_lie_where_they_were_put_as_often_as_they_are_taken(tmp_path, mapped):
    examples = made(tmp_path / "tokens" if mapped else None, times=lambda row: 1 + row % 2)
    assert [int(e.ids[0]) for e in examples][:6] == [0, 1, 1, 2, 3, 3] and len(examples) == 30
    assert examples.lengths.tolist() == [len(e) for e in examples]
    assert all((e.ids == e.ids[0]).all() and e.targets == len(e) - 1 for e in examples)
    assert examples.largest == 19 and int(examples[-1].ids[0]) == 19
    assert [len(e) for e in examples[2:5]] == examples.lengths[2:5].tolist()
    with pytest.raises(IndexError):
        examples[30]


def test_files_leave_nothing_behind(tmp_path):
    examples = made(tmp_path / "tokens")
    assert list((tmp_path / "tokens").iterdir()) == [] and len(examples) == 20


def test_mapped_rows_go_to_torch_without_a_word(tmp_path):
    torch = pytest.importorskip("torch")
    example = made(tmp_path)[3]
    assert torch.from_numpy(example.ids).tolist() == [3] * 5 and not torch.from_numpy(example.learned)[0]


@pytest.mark.parametrize("mapped", [False, True])
def test_no_row_is_both_trained_on_and_held_out(tmp_path, mapped):
    examples = made(tmp_path if mapped else None, times=lambda row: 3)
    training, held_out = split(examples, 0.25, seed=1)
    assert len(training) == 45 and len(held_out) == 15
    assert not {int(e.ids[0]) for e in training} & {int(e.ids[0]) for e in held_out}
    once, again = object(), object()
    assert split([once, once, again], 0.5, seed=1) in (([once, once], [again]), ([again], [once, once]))


def test_a_single_row_is_trained_on_and_not_held_out():
    training, held_out = split(made(rows=1), 0.5, seed=1)
    assert len(training) == 1 and len(held_out) == 0


def test_rows_in_files_take_no_memory(tmp_path):
    def peak(folder):
        tracemalloc.start()
        examples = made(folder, rows=3_000, length=lambda row: 500)
        total = sum(int(examples[i].ids.sum()) for i in np.arange(0, 3_000, 10))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return total, most

    (held_sum, held), (mapped_sum, mapped) = peak(None), peak(tmp_path)
    assert held_sum == mapped_sum and held > 3_000 * 500 * 5 > 20 * mapped
