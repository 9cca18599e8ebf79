"""Files of every kind as upright RGB pixels."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pictures import photographs
from trainyard.trainer.diffusion.data import pixels
from trainyard.trainer.diffusion.data.images import BadImage, look, upright
from trainyard.trainer.diffusion.data.picture import Frame, Picture
from trainyard.trainer.failures import DataError


def file(image, kind="PNG", **settings):
    out = BytesIO()
    image.save(out, kind, **settings)
    return out.getvalue()


def ramp(mode="RGB"):
    """40 × 20: dark on the left, light on the right."""
    grey = np.tile(np.linspace(10, 240, 40).astype(np.uint8), (20, 1))
    return Image.fromarray(np.stack([grey, grey, 255 - grey], -1)).convert(mode)


def test_exif_orientation_turns_a_picture_upright(tmp_path: Path):
    plain = np.asarray(ramp())
    for orientation, expected in [
        (1, plain),
        (2, plain[:, ::-1]),
        (3, plain[::-1, ::-1]),
        (4, plain[::-1]),
        (5, plain.transpose(1, 0, 2)),
        (6, np.rot90(plain, -1)),
        (7, np.rot90(plain, 2).transpose(1, 0, 2)),
        (8, np.rot90(plain)),
    ]:
        exif = Image.Exif()
        exif[0x0112] = orientation
        assert np.array_equal(np.asarray(upright(file(ramp(), exif=exif))), expected), orientation
        for kind in ("PNG", "JPEG", "WEBP"):
            (tmp_path / "a").write_bytes(file(ramp(), kind, exif=exif))
            assert look(tmp_path / "a").size == upright((tmp_path / "a").read_bytes()).size == expected.shape[1::-1]


def test_transparent_places_are_white():
    image = ramp("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.repeat([0, 255], 20).astype(np.uint8), (20, 1))))
    seen = np.asarray(upright(file(image)))
    assert (seen[:, :20] == 255).all()
    assert np.array_equal(seen[:, 20:], np.asarray(ramp())[:, 20:])
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 200, 10, 10])
    assert (np.asarray(upright(file(palette, "GIF", transparency=1))) == 255).all()
    assert (np.asarray(upright(file(palette))) == (200, 10, 10)).all()
    assert (np.asarray(upright(file(Image.new("LA", (4, 4), (0, 0))))) == 255).all()


def test_sixteen_bits_of_grey_keep_their_brightness():
    grey = np.array([[0, 128, 129, 32896, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        assert np.asarray(upright(file(Image.fromarray(grey), kind)))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_grey_and_black_and_white_become_rgb():
    for mode in ("L", "1"):
        assert np.asarray(upright(file(Image.new(mode, (3, 2), 255)))).tolist() == [[[255] * 3] * 3] * 2


def test_of_several_pictures_in_a_file_the_first_is_taken(tmp_path: Path):
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue", "lime")]
    (tmp_path / "a.webp").write_bytes(file(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True))
    assert look(tmp_path / "a.webp").frames == 3
    assert (np.asarray(upright((tmp_path / "a.webp").read_bytes())) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"no picture at all", "is no image"),
        (file(ramp())[:-30], "damaged or cut off"),
        (file(ramp(), "JPEG")[:-60], "damaged or cut off"),
        (file(ramp(), "WEBP")[:-60], "."),
        (file(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF"), "no white is known"),
        (file(Image.fromarray(np.array([[0, 65_536]], np.int32)), "TIFF"), "grey values beyond 16 bits"),
        (file(Image.fromarray(np.array([[-1, 9]], np.int32)), "TIFF"), "grey values beyond 16 bits"),
        (file(Image.new("1", (20_000, 10_000))), "more than 178 megapixels"),
        (file(Image.new("1", (20_000, 20_000))), "more than 178 megapixels"),
    ],
    ids=[
        "zero bytes",
        "no image",
        "cut png",
        "cut jpeg",
        "cut webp",
        "float",
        "too bright",
        "below black",
        "huge",
        "bomb",
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_can_not_be_read_is_told(tmp_path: Path, data, why):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(BadImage, match=why):
        look(tmp_path / "a.png")


def test_a_photograph_is_cut_as_its_frame_says(tmp_path: Path):
    path = photographs(tmp_path) / "chelsea 0.png"
    seen = look(path)
    whole = np.asarray(Image.open(path))
    picture = Picture("a", path, seen.sha256, Frame(seen.size, seen.size, 100, 20, 64, 48), ("a cat",))
    assert np.array_equal(pixels(picture), whole[20:68, 100:164])
    smaller = Picture("a", path, seen.sha256, Frame(seen.size, (225, 150), 3, 5, 128, 96), ("a cat",))
    expected = Image.open(path).resize((225, 150), Image.Resampling.LANCZOS).crop((3, 5, 131, 101))
    assert pixels(smaller).dtype == np.uint8
    assert np.array_equal(pixels(smaller), np.asarray(expected))


def test_a_file_that_was_changed_or_removed_meanwhile_is_told(tmp_path: Path):
    path = tmp_path / "a.png"
    path.write_bytes(file(ramp()))
    picture = Picture("a", path, look(path).sha256, Frame((40, 20), (40, 20), 0, 0, 40, 20), ("a",))
    path.write_bytes(file(ramp(), compress_level=0))
    with pytest.raises(DataError, match=r"a\.png: was changed while the job ran"):
        pixels(picture)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.png: can't be read any more"):
        pixels(picture)
