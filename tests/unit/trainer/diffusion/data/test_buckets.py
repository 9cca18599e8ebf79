"""Buckets too small for a batch."""

import pytest

from trainyard.trainer.failures import DataError

PRUNED = {"disable_bucket_pruning": False, "train_batch_size": 4}


@pytest.fixture
def folder(paint):
    """Five square pictures and two wide ones."""
    return paint("a", **{f"s{n}": (64, 64) for n in range(5)}, w0=(100, 50), w1=(100, 50))


def test_a_bucket_with_fewer_than_a_batch_is_left_out_and_told(folder, look):
    found = look(folder, options=PRUNED)
    assert {picture.frame.bucket for picture in found.pictures} == {(64, 64)} and len(found.pictures) == 5
    (note,) = found.notes
    assert "2 pictures of 'one' are left out, in buckets with fewer than a batch of 4 (88 × 48: 2)" in note


def test_it_is_kept_where_that_is_asked_for_or_repeats_fill_it(folder, look):
    assert len(look(folder, options=PRUNED | {"disable_bucket_pruning": True}).pictures) == 7
    assert len(look(folder, options=PRUNED, repeats=1).pictures) == 7
    assert len(look(folder, options=PRUNED, train_batch_size=2).pictures) == 7


def test_a_set_that_fills_no_batch_is_refused_with_what_would_be_right(paint, look):
    folder = paint("a", x=(64, 64))
    with pytest.raises(DataError) as refused:
        look(folder, options=PRUNED)
    for told in ("the largest, 64 × 64, has 1 picture;", "train_batch_size 1 or less", "repeats 3 or more"):
        assert told in str(refused.value)
    assert len(look(folder, options=PRUNED | {"train_batch_size": 1}).pictures) == 1


def test_oversubscription_raises_repeats_but_not_those_given(paint, look):
    folder = paint("a", x=(64, 64), y=(64, 64))
    allowed = PRUNED | {"allow_dataset_oversubscription": True, "train_batch_size": 5}
    found = look(folder, options=allowed)
    assert found.sets[0].repeats == 2
    assert "repeats: raised from 0 to 2" in found.notes[0]
    with pytest.raises(DataError, match=r"has 2 pictures × 2; .* repeats 2 or more"):
        look(folder, options=allowed, repeats=1)
    assert look(folder, options=allowed | {"train_batch_size": 2}).sets[0].repeats == 0


def test_pictures_share_a_bucket_only_with_references_of_one_size(paint, look, make_entry):
    found = look(
        make_entry(paint("after", x=(64, 64), y=(64, 64)), "edit", conditioning_data=("ref",)),
        make_entry(
            paint("before", x=(64, 64), y=(128, 64)),
            "ref",
            dataset_type="conditioning",
            conditioning_type="reference_loose",
        ),
        options={"disable_bucket_pruning": False, "train_batch_size": 2, "allow_dataset_oversubscription": True},
    )
    assert found.sets[0].repeats == 1
