"""How much of which set an epoch takes."""

import pytest

from tests.unit.trainer.diffusion.data.drawn import batches, counted, of_set
from trainyard.trainer.failures import DataError


def test_probability_is_the_share_of_a_set_that_an_epoch_takes_and_the_next_goes_on(epochs):
    made = epochs({"a": {"square": 8, "probability": 0.25}, "b": {"square": 4}})
    assert [of_set(made, "a", epoch) for epoch in range(4)] == [2, 2, 2, 2]
    seen = [name for epoch in range(4) for name in counted(made, epoch) if name.startswith("a/")]
    assert len(set(seen)) == 8
    assert of_set(made, "b") == 4


def test_sets_come_by_their_sizes_or_in_equal_parts(epochs):
    sets = {"a": {"square": 15}, "b": {"square": 3, "repeats": 2}}
    by_size = epochs(sets, data_backend_sampling="auto-weighting")
    assert (of_set(by_size, "a"), of_set(by_size, "b")) == (15, 9)
    equal = epochs(sets, data_backend_sampling="uniform")
    assert (of_set(equal, "a"), of_set(equal, "b")) == (12, 12)
    weighed = epochs({"c": {"square": 9}, "d": {"square": 3, "probability": 3}}, data_backend_sampling="uniform")
    assert (of_set(weighed, "c"), of_set(weighed, "d")) == (3, 9)


def test_in_equal_parts_nothing_is_lost_over_the_epochs(epochs):
    made = epochs({"a": {"square": 15}, "b": {"square": 3}}, data_backend_sampling="uniform")
    taken = sum((counted(made, epoch) for epoch in range(5)), counted(made, 5))
    assert {count for name, count in taken.items() if name[0] == "a"} <= {3, 4}
    assert {count for name, count in taken.items() if name[0] == "b"} == {18}


def test_sets_begin_and_end_with_their_epochs(epochs):
    made = epochs({"a": {"square": 4, "end_epoch": 2}, "b": {"square": 2, "start_epoch": 2}})
    assert [(of_set(made, "a", e), of_set(made, "b", e)) for e in range(4)] == [(4, 0), (4, 2), (0, 2), (0, 2)]
    assert [made.steps(e) for e in range(4)] == [4, 6, 2, 2]
    assert made.at(11) == (2, 1)


def test_a_set_that_begins_within_an_epoch_gives_all_of_itself_to_its_rest(epochs):
    made = epochs({"a": {"square": 10}, "b": {"square": 5, "start_step": 7}})
    names = [name for (name,) in batches(made)]
    assert len(names) == len(set(names)) == len(made) == 15
    assert {name[0] for name in names[:6]} == {"a"}
    assert {name[0] for name in names[6:10]} == {"a", "b"}
    assert made.steps(1) == 15


def test_a_set_that_begins_with_the_end_of_an_epoch_waits_for_the_next(epochs):
    made = epochs({"a": {"square": 6}, "b": {"square": 5, "start_step": 7}})
    assert [made.steps(epoch) for epoch in range(3)] == [6, 11, 11]
    assert len(batches(made, 0)) == 6


def test_a_set_that_is_over_within_an_epoch_takes_the_rest_with_it(epochs):
    made = epochs({"a": {"square": 10, "end_step": 4}, "b": {"square": 10}}, train_batch_size=2)
    names = [batch[0][0] for batch in batches(made)]
    assert "a" in names[:4] and "a" not in names[4:]
    assert names.count("b") == 5
    assert made.steps(1) == 5 and of_set(made, "a", 1) == 0


def test_later_epochs_are_the_same_whether_the_earlier_ones_were_asked_for(epochs):
    sets = {"a": {"square": 10, "end_step": 14}, "b": {"square": 5, "start_step": 7}}
    asked, not_asked = epochs(sets), epochs(sets)
    for epoch in range(3):
        batches(asked, epoch)
    assert batches(asked, 3) == batches(not_asked, 3)


def test_sets_that_are_over_before_the_run_are_refused(epochs):
    made = epochs({"a": {"square": 4, "end_epoch": 2}})
    assert [made.steps(epoch) for epoch in range(3)] == [4, 4, 0] and made.start(2) == 8
    with pytest.raises(DataError, match=r"data_backend_config: after step 8 no set is trained on in epoch 3: see"):
        made.start(3)
    with pytest.raises(DataError, match="no set is trained on in epoch 3"):
        made.at(8)
    with pytest.raises(DataError, match="no set is trained on in epoch 3"):
        made.step(2, 0, 0)
    assert len(epochs({"a": {"square": 4, "end_epoch": 2}}, max_train_steps=8)) == 4
    with pytest.raises(DataError, match="after step 8 no set"):
        epochs({"a": {"square": 4, "end_epoch": 2}}, max_train_steps=9)
    with pytest.raises(DataError, match="after step 3 no set is trained on in epoch 2"):
        epochs({"a": {"square": 4, "end_step": 3}}, max_train_steps=4)


def test_a_gap_between_sets_is_refused(epochs):
    sets = {"a": {"square": 4, "end_epoch": 1}, "b": {"square": 4, "start_epoch": 3}}
    with pytest.raises(DataError, match="after step 4 no set is trained on in epoch 2"):
        epochs(sets).start(3)


def test_very_long_runs_are_planned_at_once(epochs):
    made = epochs({"a": {"square": 2, "end_step": 7}, "b": {"square": 1}}, max_train_steps=10**12)
    assert [made.steps(epoch) for epoch in range(4)] == [3, 3, 2, 1]
    assert made.at(10**12) == (10**12 - 5, 0)
    assert made.start(10**12 - 5) == 10**12
