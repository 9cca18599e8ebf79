"""The first look at the data: what is found, what is left out, and what is refused."""

import os
from pathlib import Path

import pytest
from PIL import Image

from trainyard.trainer.failures import ConfigError, DataError, StopNow


def names(gallery):
    return [picture.path.name for picture in gallery.pictures]


def test_pictures_are_found_in_all_folders_below_in_the_order_of_their_names(paint, look):
    paint("a", z=(64, 64), b=(64, 64))
    paint("a/deep", a=(64, 64))
    paint("a/.hidden", a=(64, 64))
    folder = paint("a", "JPG", c=(64, 64))
    for beside in ("b.txt", ".c.png", "list.csv", "film.mp4"):
        (folder / beside).write_text("nothing")
    (folder / "deep" / "again").symlink_to(folder)
    found = look(folder)
    assert [str(p.path.relative_to(folder)) for p in found.pictures] == ["b.png", "c.JPG", "deep/a.png", "z.png"]
    assert "1 × .mp4" in found.notes[0]


def test_the_same_files_have_the_same_frames_and_another_seed_others(paint, look):
    folder = paint("a", **{f"p{n}": (200 + n, 64) for n in range(8)})

    def lefts(**kept):
        return [picture.frame.left for picture in look(folder, crop=True, **kept).pictures]

    assert lefts() == lefts()
    assert lefts(seed=2) != lefts()
    assert lefts(id="other") != lefts()


def test_the_look_can_be_stopped(paint, look):
    def stop():
        raise StopNow

    with pytest.raises(StopNow):
        look(paint("a", x=(64, 64)), options={}, check=stop)


def test_bad_files_are_refused_by_name_or_left_out(paint, look):
    folder = paint("a", good=(64, 64), cut=(64, 64))
    (folder / "cut.png").write_bytes((folder / "cut.png").read_bytes()[:-60])
    (folder / "empty.jpg").touch()
    (folder / "phone.heic").write_bytes(b"....ftypheic")
    (folder / os.fsdecode(b"caf\xe9.png")).write_bytes((folder / "good.png").read_bytes())
    (folder / "nowhere.png").symlink_to(folder / "gone")
    with pytest.raises(DataError) as refused:
        look(folder)
    for told in (
        "a/cut.png: is damaged or cut off",
        "a/empty.jpg: is empty (0 bytes)",
        "a/phone.heic: is of a kind that can't be read",
        "a/caf\\xe9.png: has a name that is not UTF-8",
        "a/nowhere.png: is gone, or a link that leads nowhere",
        'extra_parameters.on_bad_row: "skip"',
    ):
        assert told in str(refused.value)
    found = look(folder, options={"on_bad_row": "skip"})
    assert names(found) == ["good.png"]
    assert found.parts[0].left_out == {"bad": 5}
    assert "left out (5)" in found.notes[0]


def test_of_an_animated_file_the_first_picture_is_taken_and_that_is_said(tmp_path: Path, look):
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    said = []
    look(tmp_path, say=said.append)
    assert said == [f"of files with several pictures the first is taken: {tmp_path}/a.gif (2)"]


def test_small_and_odd_pictures_are_left_out_and_counted(paint, look):
    folder = paint("a", small=(20, 20), wide=(400, 60), tall=(60, 400), good=(64, 64), fine=(80, 64))
    found = look(folder, minimum_image_size=64, minimum_aspect_ratio=0.5, maximum_aspect_ratio=2)
    assert names(found) == ["fine.png", "good.png"]
    assert found.parts[0].left_out == {"too small": 1, "too narrow": 1, "too wide": 1}
    assert any("1 of 5 pictures of 'one' are left out, too small: small.png" in note for note in found.notes)


def test_limits_that_leave_no_picture_are_told_with_what_would_be_right(paint, look):
    folder = paint("a", x=(300, 200), y=(100, 100))
    with pytest.raises(DataError) as refused:
        look(folder, minimum_image_size=1024)
    assert "data_backend_config[one]: none of the 2 pictures of 'one' is left: 2 too small" in str(refused.value)
    assert "the largest has 300 × 200 pixels" in str(refused.value) and "244 or less" in str(refused.value)
    with pytest.raises(DataError, match=r"aspect ratios \(width / height\) are 1\.00 to 1\.50"):
        look(folder, minimum_aspect_ratio=2)
    with pytest.raises(DataError, match=r"0\.06 or less would be right"):
        look(folder, minimum_image_size=1, resolution=0.25, resolution_type="area")
    with pytest.raises(DataError, match="a smaller resolution than 1024"):
        look(folder, resolution=1024, crop=True, max_upscale_threshold=0.1)
    assert len(look(folder, minimum_image_size=244).pictures) == 1


def test_a_folder_without_pictures_is_told(tmp_path: Path, look):
    (tmp_path / "film.mp4").touch()
    with pytest.raises(DataError, match=r"instance_data_dir: .* holds no picture \(1 × \.mp4\); pictures end in"):
        look(tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere is not there"):
        look(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"film\.mp4 is a file"):
        look(tmp_path / "film.mp4")
    with pytest.raises(ConfigError, match="pictures is not an absolute path"):
        look(Path("pictures"))


def test_a_fixed_part_of_a_set_is_chosen_by_its_id(paint, look):
    folder = paint("a", **{f"p{n}": (64, 64) for n in range(20)})
    some = names(look(folder, max_num_samples=5))
    assert len(some) == 5 and some == names(look(folder, max_num_samples=5, seed=9))
    assert some != names(look(folder, max_num_samples=5, id="other"))
    assert set(some) < set(names(look(folder, max_num_samples=8)))
    assert len(look(folder, max_num_samples=50).pictures) == 20


def test_every_edge_is_a_multiple_of_the_familys_stride(paint, look):
    folder = paint("a", x=(100, 70))
    assert look(folder, stride=32).pictures[0].frame.bucket == (64, 64)
    assert look(folder, stride=8).pictures[0].frame.bucket == (80, 56)
    assert look(folder, stride=8, options={"aspect_bucket_alignment": 16}).pictures[0].frame.bucket == (80, 48)
    assert look(folder, options={"aspect_bucket_rounding": 1, "resolution": 640}).pictures[0].frame.bucket == (760, 544)
    assert look(folder, options={"aspect_bucket_rounding": 3, "resolution": 640}).pictures[0].frame.bucket == (768, 536)
