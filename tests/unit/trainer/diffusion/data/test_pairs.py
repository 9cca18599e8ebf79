"""Pictures and the pictures to edit that go with them."""

import numpy as np
import pytest

from tests.pictures import edits
from trainyard.trainer.diffusion.data import pixels
from trainyard.trainer.failures import ConfigError, DataError


def test_partners_are_found_by_name_in_every_folder_whatever_their_suffix(paint, look, make_entry):
    after, before = paint("after", x=(64, 64)), paint("before", "jpg", x=(64, 64))
    paint("after/deep", y=(64, 64))
    paint("before/deep", y=(64, 64))
    found = look(
        make_entry(after, "edit", conditioning_data=("ref",)),
        make_entry(before, "ref", dataset_type="conditioning", conditioning_type="reference_strict"),
    )
    pairs = [(p.path.relative_to(after), p.references[0].path.relative_to(before)) for p in found.pictures]
    assert [(str(a), str(b)) for a, b in pairs] == [("deep/y.png", "deep/y.png"), ("x.png", "x.jpg")]
    assert [one.id for one in found.sets] == ["edit"] and [one.id for one in found.conditioning] == ["ref"]
    assert [reference.dataset for reference in found.references] == ["ref", "ref"]


def test_a_strict_partner_is_cut_like_the_picture(tmp_path, look, make_entry):
    after, before = edits(tmp_path, 6)
    found = look(
        make_entry(after, "edit", conditioning_data=("ref",), crop=True, caption_strategy="textfile", resolution=48),
        make_entry(before, "ref", dataset_type="conditioning", conditioning_type="reference_strict", resolution=128),
    )
    assert len({picture.frame.left for picture in found.pictures}) > 1
    for picture in found.pictures:
        colour, grey = pixels(picture).astype(float), pixels(picture.references[0]).astype(float)
        assert colour.shape == grey.shape == (48, 48, 3)
        assert np.abs(colour @ (0.299, 0.587, 0.114) - grey[..., 0]).mean() < 4


def test_a_loose_partner_is_framed_by_its_own_set(paint, look, make_entry):
    found = look(
        make_entry(paint("after", x=(64, 64)), "edit", conditioning_data=("ref",)),
        make_entry(
            paint("before", x=(200, 100)),
            "ref",
            dataset_type="conditioning",
            conditioning_type="reference_loose",
            resolution=32,
        ),
    )
    (picture,) = found.pictures
    assert picture.frame.bucket == (64, 64) and picture.references[0].frame.bucket == (48, 24)


def test_a_set_can_name_its_partner_from_its_own_side(paint, look, make_entry):
    found = look(
        make_entry(paint("after", x=(64, 64)), "edit"),
        make_entry(
            paint("before", x=(64, 64)),
            "ref",
            dataset_type="conditioning",
            conditioning_type="reference_strict",
            source_dataset_id="edit",
        ),
    )
    assert found.pictures[0].references[0].dataset == "ref"


def test_missing_and_unfit_partners_are_listed_and_can_be_left_out(paint, look, make_entry):
    after = paint("after", x=(64, 64), lonely=(64, 64), wide=(64, 64), twice=(64, 64))
    before = paint("before", x=(64, 64), wide=(128, 64), twice=(64, 64), orphan=(64, 64))
    paint("before", "jpg", twice=(64, 64))
    entries = (
        make_entry(after, "edit", conditioning_data=("ref",)),
        make_entry(before, "ref", dataset_type="conditioning", conditioning_type="reference_strict"),
    )
    with pytest.raises(DataError) as refused:
        look(*entries)
    told = str(refused.value)
    assert "after/lonely.png: has no partner in 'ref': no picture lonely.* in" in told
    assert "after/wide.png: has another shape than its partner in 'ref': 64 × 64 and 128 × 64 (wide.png)" in told
    assert "reference_loose" in told
    assert "after/twice.png: has several partners in 'ref': twice.jpg and twice.png" in told
    found = look(*entries, options={"on_bad_row": "skip"})
    assert [picture.path.name for picture in found.pictures] == ["x.png"]
    assert any("pictures of 'ref' go with none: orphan" in note for note in found.notes)


def test_pairs_of_sets_that_do_not_exist_are_refused(paint, look, make_entry):
    folder = paint("a", x=(64, 64))
    ref = make_entry(folder, "ref", dataset_type="conditioning", conditioning_type="reference_loose")
    with pytest.raises(ConfigError, match=r"conditioning_data: 'none' is no set .*; there is ref"):
        look(make_entry(folder, "edit", conditioning_data=("none", "ref")), ref)
    with pytest.raises(ConfigError, match=r"no set of pictures is paired with 'ref'"):
        look(make_entry(folder, "edit"), ref)
    with pytest.raises(ConfigError, match=r"conditioning_type: is required"):
        look(
            make_entry(folder, "edit", conditioning_data=("ref",)),
            make_entry(folder, "ref", dataset_type="conditioning"),
        )
