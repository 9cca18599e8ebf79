"""Which part of a picture is trained on, and at what size."""

import pytest

from trainyard.trainer.diffusion.data.frames import Framing, aligned_to, like
from trainyard.trainer.diffusion.data.picture import Frame


def bucket(size, **settings):
    return Framing(**{"resolution": 512, "alignment": 64} | settings).frame(size, "seed").bucket


def test_resolution_is_the_shorter_edge_an_area_or_megapixels_by_its_type():
    assert bucket((1600, 800), resolution_type="pixel") == (1024, 512)
    assert bucket((800, 1600), resolution_type="pixel") == (512, 1024)
    assert bucket((1600, 800), resolution_type="pixel_area") == (704, 384)
    assert bucket((1600, 800), resolution_type="area", resolution=1.0) == (1408, 704)
    assert bucket((900, 900), resolution_type="area", resolution=1.0, crop=True) == (1024, 1024)


def test_every_edge_is_a_multiple_of_the_alignment_and_never_nothing():
    assert bucket((1600, 800), alignment=8) == (728, 360)
    assert bucket((1600, 800), alignment=32) == (736, 352)
    assert bucket((3000, 100), resolution=64) == (320, 64)


def test_alignment_is_never_below_the_stride_of_the_family():
    assert aligned_to(8, 16) == 16
    assert aligned_to(64, 16) == 64
    assert aligned_to(24, 16) == 48


def test_ratios_are_rounded_to_the_decimals_asked_for():
    assert bucket((1449, 1000), alignment=8, rounding=1) == bucket((1400, 1000), alignment=8)
    assert bucket((1449, 1000), alignment=8, rounding=1) != bucket((1449, 1000), alignment=8, rounding=3)


def test_without_crop_the_whole_picture_is_shown():
    frame = Framing(resolution=512, crop_aspect="square").frame((1600, 800), "seed")
    assert frame == Frame((1600, 800), (704, 384), 0, 0, 704, 384)


def test_a_crop_is_resized_until_it_just_covers_the_bucket():
    square = Framing(resolution=512, crop=True, crop_style="center")
    assert square.frame((1600, 800), "s") == Frame((1600, 800), (1024, 512), 256, 0, 512, 512)
    assert square.frame((100, 200), "s") == Frame((100, 200), (512, 1024), 0, 256, 512, 512)


def test_crop_style_chooses_the_part():
    def corner(style, seed="1 set hash"):
        frame = Framing(resolution=512, crop=True, crop_style=style).frame((1600, 800), seed)
        return frame.left, frame.top

    assert corner("corner") == (0, 0)
    assert corner("center") == (256, 0)
    drawn = {corner("random", f"1 set {n}") for n in range(20)}
    assert len(drawn) > 10 and all(0 <= left <= 512 and top == 0 for left, top in drawn)
    assert corner("random") == corner("random")


def test_crop_aspect_chooses_the_shape():
    ratios = ((1.0, 1.0), (1.5, 1.0), (0.5, 1.0))

    def shape(aspect, size=(1600, 900), seed="s", **settings):
        return bucket(size, crop=True, crop_aspect=aspect, crop_aspect_buckets=ratios, **settings)

    assert shape("square") == (512, 512)
    assert shape("preserve") == (704, 384)
    assert shape("closest") == (640, 448)
    assert shape("closest", (100, 190)) == (384, 704)


def test_random_ratios_come_as_often_as_their_weights_say():
    framing = Framing(resolution=512, crop=True, crop_aspect="random", crop_aspect_buckets=((1.0, 3.0), (2.0, 1.0)))
    drawn = [framing.frame((900, 900), f"{n}").bucket for n in range(400)]
    assert 240 < drawn.count((512, 512)) < 360
    assert set(drawn) == {(512, 512), (704, 384)}


def test_large_pictures_are_scaled_to_the_target_before_they_are_cut():
    framing = Framing(
        resolution=512, crop=True, crop_style="center", maximum_image_size=1024, target_downsample_size=768
    )
    assert framing.frame((2000, 2000), "s") == Frame((2000, 2000), (768, 768), 128, 128, 512, 512)
    assert framing.frame((1000, 1000), "s").resized == (512, 512)
    pixel = Framing(
        resolution=512,
        resolution_type="pixel",
        crop=True,
        maximum_image_size=1024,
        target_downsample_size=768,
    )
    assert pixel.frame((4000, 2000), "s").resized == (1536, 768)


def test_a_target_below_the_bucket_still_covers_it():
    framing = Framing(resolution=512, crop=True, maximum_image_size=600, target_downsample_size=256)
    assert framing.frame((2000, 2000), "s").resized == (512, 512)


@pytest.mark.parametrize(
    ("type_", "minimum", "small", "large"),
    [
        ("pixel", 100, (99, 900), (100, 100)),
        ("pixel_area", 100, (90, 110), (80, 126)),
        ("pixel_area", 0.01, (99, 100), (100, 100)),
        ("area", 0.01, (99, 100), (100, 100)),
    ],
)
def test_smaller_files_are_left_out_in_the_unit_of_the_resolution(type_, minimum, small, large):
    framing = Framing(resolution=64 if type_ != "area" else 0.01, resolution_type=type_, minimum_image_size=minimum)
    assert framing.fault(small) == "too small"
    assert framing.fault(large) is None


def test_files_outside_the_ratios_are_left_out():
    framing = Framing(resolution=64, minimum_aspect_ratio=0.5, maximum_aspect_ratio=2)
    assert framing.fault((49, 100)) == "too narrow"
    assert framing.fault((201, 100)) == "too wide"
    assert framing.fault((50, 100)) is None and framing.fault((200, 100)) is None


def test_what_would_be_enlarged_too_much_goes_to_another_bucket_or_is_left_out():
    settings = {
        "resolution": 1024,
        "resolution_type": "pixel",
        "crop": True,
        "crop_aspect_buckets": ((1.0, 1.0), (2.0, 1.0)),
    }
    free = Framing(crop_aspect="closest", **settings)
    strict = Framing(crop_aspect="closest", max_upscale_threshold=0.2, **settings)
    assert free.frame((1500, 900), "s").bucket == (2048, 1024)
    assert strict.frame((1500, 900), "s").bucket == (1024, 1024)
    assert strict.frame((860, 860), "s").bucket == (1024, 1024)
    assert strict.fault((850, 850)) == "too much enlarged"
    assert strict.fault((256, 256)) == "too much enlarged"
    assert free.fault((256, 256)) is None


def test_a_picture_that_would_take_gigabytes_is_left_out():
    assert Framing(resolution=1024, resolution_type="pixel").fault((10, 10_000)) == "too long for its width"


def test_a_strict_partner_is_cut_at_the_same_place():
    frame = Framing(resolution=512, crop=True).frame((1600, 800), "s")
    other = like(frame, (800, 400))
    assert other.original == (800, 400)
    assert (other.resized, other.left, other.top, other.bucket) == (frame.resized, frame.left, frame.top, frame.bucket)
