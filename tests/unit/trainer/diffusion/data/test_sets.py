"""What the dataloader's entries and the options come to together."""

import pytest

from schemas.diffusion.dataloader import WeightedRatio
from trainyard.trainer.failures import ConfigError, DataError


def buckets(gallery):
    return [picture.frame.bucket for picture in gallery.pictures]


def test_options_are_used_where_an_entry_says_nothing(paint, look):
    folder = paint("a", x=(64, 64))
    assert buckets(look(folder, options={"resolution": 128})) == [(128, 128)]
    assert buckets(look(folder, options={"resolution": 128}, resolution=32)) == [(32, 32)]
    mega = {"resolution": 0.01, "resolution_type": "area"}
    assert buckets(look(folder, options=mega)) == [(96, 96)]
    assert buckets(look(folder, options=mega, resolution_type="pixel_area", resolution=64)) == [(64, 64)]
    with pytest.raises(DataError, match="1 too small"):
        look(folder, options={"minimum_image_size": 100})
    large = {"maximum_image_size": 50, "target_downsample_size": 48}
    assert look(folder, crop=True, resolution=32).pictures[0].frame.resized == (32, 32)
    assert look(folder, crop=True, resolution=32, options=large).pictures[0].frame.resized == (48, 48)
    assert look(folder, options={"train_batch_size": 3}).sets[0].batch_size == 3
    assert look(folder, options={"train_batch_size": 3}, train_batch_size=2).sets[0].batch_size == 2


def test_disabled_entries_and_caches_are_no_sets(paint, look, make_entry):
    folder = paint("a", x=(64, 64))
    texts = make_entry(folder, "texts", dataset_type="text_embeds", instance_data_dir=None)
    found = look(make_entry(folder, "one"), make_entry(folder, "off", disabled=True), texts)
    assert [one.id for one in found.sets] == ["one"]
    with pytest.raises(ConfigError, match="no entry is a set of pictures to train on"):
        look(make_entry(folder, "off", disabled=True), texts)


def test_two_entries_with_one_id_are_refused(paint, look, make_entry):
    folder = paint("a", x=(64, 64))
    with pytest.raises(ConfigError, match=r"d\[1\]\.id: 'one' is that of d\[0\] too"):
        look(make_entry(folder, "one", at="d[0]"), make_entry(folder, "one", at="d[1]"))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"instance_data_dir": None}, "instance_data_dir: is required"),
        ({"maximum_image_size": 100}, "target_downsample_size: is required with maximum_image_size"),
        ({"crop": True, "crop_aspect": "closest"}, "crop_aspect_buckets: is required with crop_aspect 'closest'"),
        ({"start_epoch": 2}, "start_epoch: no set begins at once"),
        ({"start_step": 5}, "start_epoch: no set begins at once"),
    ],
)
def test_what_an_entry_lacks_is_told_with_its_path(paint, look, fields, why):
    with pytest.raises(ConfigError, match=rf"data_backend_config\[one\]\.{why}"):
        look(paint("a", x=(64, 64)), **fields)


def test_all_that_is_wrong_is_told_at_once(paint, look, make_entry):
    with pytest.raises(ConfigError) as refused:
        look(
            make_entry(paint("a", x=(64, 64)), "one", crop=True, crop_aspect="random"),
            make_entry(paint("b", x=(64, 64)), "two", maximum_image_size=3, conditioning_data=("no",)),
        )
    assert len(refused.value.problems) == 3


def test_the_cut_is_what_the_entry_says(paint, look):
    folder = paint("a", x=(200, 100))

    def frame(**fields):
        return look(folder, crop=True, **fields).pictures[0].frame

    assert [frame(crop_style=style).left for style in ("corner", "center")] == [0, 32]
    assert frame(crop_aspect="preserve").bucket == (88, 48)
    ratios = (0.5, WeightedRatio(aspect_bucket=1.5, weight=1e-9))
    assert frame(crop_aspect="closest", crop_aspect_buckets=ratios).bucket == (80, 56)
    assert frame(crop_aspect="random", crop_aspect_buckets=ratios).bucket == (48, 88)
