"""Which pictures meet in which step."""

import pytest

from tests.unit.trainer.diffusion.data.drawn import batches, counted

SETS = {"a": {"square": 9, "wide": 4}, "b": {"square": 6, "wide": 3, "repeats": 1}}


def test_every_picture_comes_once_and_as_often_again_as_repeats_say(epochs):
    found = counted(epochs(SETS, train_batch_size=2))
    assert len(found) == 22
    assert {name: count for name, count in found.items() if count != (2 if name[0] == "b" else 1)} == {}


@pytest.mark.parametrize("processes", [1, 2, 3, 5])
@pytest.mark.parametrize("accumulation", [1, 3])
def test_nothing_is_lost_or_repeated_among_processes(epochs, processes, accumulation):
    made = epochs(SETS, processes, train_batch_size=4, gradient_accumulation_steps=accumulation)
    found = counted(made)
    assert len(found) == 22
    assert sum(found.values()) - (9 + 4 + 12 + 6) < processes
    for index in range(len(made)):
        per_process = [len(made.step(0, index, rank)) for rank in range(processes)]
        assert len(set(per_process)) == 1 and 1 <= per_process[0] <= accumulation
        assert made.samples(0, index) == sum(map(len, batches(made, 0, index)))
        if index < len(made) - 1:
            assert per_process[0] == accumulation


def test_a_micro_batch_is_of_one_bucket_of_one_set_and_no_larger_than_its_batch_size(epochs):
    made = epochs({"a": {"square": 9, "wide": 5}, "b": {"square": 5, "train_batch_size": 2}}, train_batch_size=4)
    kinds = [{name[:3] for name in batch} for batch in batches(made)]
    assert all(len(kind) == 1 for kind in kinds)
    sizes = sorted((min(kind), len(batch)) for kind, batch in zip(kinds, batches(made), strict=True))
    assert sizes == [
        *[("a/s", 1), ("a/s", 4), ("a/s", 4), ("a/w", 1), ("a/w", 4)],
        *[("b/s", 1), ("b/s", 2), ("b/s", 2)],
    ]


def test_steps_are_a_function_of_seed_epoch_and_index(epochs):
    one, other = epochs(SETS, train_batch_size=2), epochs(SETS, train_batch_size=2)
    late = one.step(7, 3, 0)
    assert [one.step(0, i, 0) for i in range(len(one))] == [other.step(0, i, 0) for i in range(len(other))]
    assert other.step(7, 3, 0) == late
    assert batches(one, 0) != batches(one, 1)
    assert batches(epochs(SETS, train_batch_size=2, seed=2)) != batches(one)


def test_processes_share_the_micro_batches_that_one_process_accumulates(epochs):
    alone = epochs(SETS, train_batch_size=2, gradient_accumulation_steps=2)
    both = epochs(SETS, 2, train_batch_size=2)
    assert len(alone) == len(both)
    for index in range(len(alone) - 1):
        assert alone.step(0, index, 0) == [*both.step(0, index, 0), *both.step(0, index, 1)]


def test_fewer_pictures_than_processes_are_shown_again(epochs):
    made = epochs({"a": {"square": 3}}, processes=4, train_batch_size=8)
    assert len(made) == 1
    assert sorted(map(len, batches(made))) == [1, 1, 1, 1]
    assert counted(made).keys() == {"a/s0", "a/s1", "a/s2"}


def test_a_set_of_one_picture_makes_epochs_of_one_step(epochs):
    made = epochs({"a": {"square": 1}})
    assert [made.at(step) for step in range(3)] == [(0, 0), (1, 0), (2, 0)]


def test_where_to_go_on_follows_from_the_steps_done(epochs):
    made = epochs(SETS, train_batch_size=2)
    assert made.at(0) == (0, 0)
    assert made.at(len(made) - 1) == (0, len(made) - 1)
    assert made.at(len(made)) == (1, 0)
    assert made.at(3 * len(made) + 2) == (3, 2)
    assert made.start(3) == 3 * len(made)


def test_captions_are_drawn_for_each_time_and_dropped_as_often_as_asked(epochs):
    made = epochs({"a": {"square": 40}}, caption_dropout_probability=0.5)
    captions = [d.caption for e in range(10) for i in range(len(made)) for (d,) in made.step(e, i, 0)]
    assert 150 < captions.count("") < 250
    (together,) = epochs({"a": {"square": 40}}, train_batch_size=40, caption_dropout_probability=0.5).step(0, 0, 0)
    assert 10 < [drawn.caption for drawn in together].count("") < 30
    kept = epochs({"a": {"square": 40}})
    assert "" not in [d.caption for i in range(40) for (d,) in kept.step(0, i, 0)]


def test_each_caption_of_a_picture_has_its_turn(epochs, paint):
    folder = paint("a", s0=(64, 64))
    (folder / "s0.txt").write_text("one\ntwo\nthree\n")
    made = epochs({"a": {"square": 1, "caption_strategy": "textfile"}})
    assert {made.step(epoch, 0, 0)[0][0].caption for epoch in range(40)} == {"one", "two", "three"}


def test_each_picture_of_a_batch_draws_a_caption_of_its_own(epochs, paint):
    for n in range(20):
        (paint("a") / f"s{n}.txt").write_text("one\ntwo\n")
    (batch,) = epochs({"a": {"square": 20, "caption_strategy": "textfile"}}, train_batch_size=20).step(0, 0, 0)
    assert 4 < [drawn.caption for drawn in batch].count("one") < 16


def test_references_are_all_shown_or_one_drawn_for_the_whole_batch(epochs):
    given = {"dataset_type": "conditioning", "conditioning_type": "reference_loose", "square": 8}
    sets = {"a": {"square": 8, "conditioning_data": ("x", "y")}, "x": given, "y": given}
    combined = epochs(sets, train_batch_size=4, conditioning_multidataset_sampling="combined")
    assert [[r.dataset for r in d.references] for b in combined.step(0, 0, 0) for d in b] == [["x", "y"]] * 4
    random = epochs(sets, train_batch_size=4, conditioning_multidataset_sampling="random")
    drawn = [{tuple(r.dataset for r in d.references) for d in random.step(e, 0, 0)[0]} for e in range(30)]
    assert all(len(kinds) == 1 for kinds in drawn)
    assert set().union(*drawn) == {("x",), ("y",)}
