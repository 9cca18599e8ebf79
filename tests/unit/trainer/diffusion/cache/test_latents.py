"""Latents and embeddings: known by what they are of, noticed when that changes, made anew when they were damaged."""

from pathlib import Path

import pytest
import torch
from attrs import evolve

from tests.unit.trainer.diffusion.cache.conftest import Album, Letters, Means
from trainyard.trainer.diffusion.cache import Latents, Prompt, Texts
from trainyard.trainer.diffusion.cache.placing import Place, When
from trainyard.trainer.diffusion.data.images import pixels
from trainyard.trainer.failures import DataError


@pytest.fixture
def latents(tmp_path: Path) -> Latents:
    return Latents(tmp_path / "cache", "vae 1")


def test_latents_are_filled_once_by_size_and_read_as_the_encoder_made_them(
    latents: Latents, album: Album, means: Means
) -> None:
    wide, tall = album(5), album(3, size=(16, 32))
    assert latents.missing(wide + tall) == wide + tall
    assert latents.fill([*wide, *tall, wide[0]], means, batch=2) == 8  # type: ignore[arg-type]
    assert sorted(means.batches) == [1, 1, 2, 2, 2] and latents.missing(wide + tall) == []
    assert torch.equal(latents.read(wide[1:4]), Means().encode([pixels(p) for p in wide[1:4]]))
    assert latents.read(tall).shape == (3, 3, 4, 2)


def test_a_changed_picture_crop_or_vae_is_another_thing(latents: Latents, album: Album, means: Means) -> None:
    (picture,) = album(1)
    latents.fill([picture], means)  # type: ignore[arg-type]
    frame = picture.frame
    others = [
        evolve(picture, sha256="0" * 64),
        evolve(picture, frame=evolve(frame, left=1)),
        evolve(picture, frame=evolve(frame, resized=(40, 20))),
        evolve(picture, frame=evolve(frame, width=16)),
    ]
    assert latents.missing(others) == others
    assert latents.missing([evolve(picture, path=Path("elsewhere.png"), captions=("other words",))]) == []
    assert Latents(latents.folder, "vae 2").missing([picture]) == [picture]


def test_a_file_that_changed_since_it_was_looked_at_ends_the_job(latents: Latents, album: Album, means: Means) -> None:
    first, second = album(2)
    first.path.write_bytes(second.path.read_bytes())
    with pytest.raises(DataError, match=r"32x16-0\.png: was changed while the job ran"):
        latents.fill([first], means)  # type: ignore[arg-type]


def test_pictures_to_edit_are_cached_too_each_in_the_folder_of_its_set(
    album: Album, means: Means, tmp_path: Path
) -> None:
    edits = album(2, dataset="edits")
    pictures = [evolve(p, references=(edit,)) for p, edit in zip(album(2), edits, strict=True)]
    latents = Latents(tmp_path / "cache", "vae 1", {"edits": Place(tmp_path / "own")})
    assert latents.fill(pictures, means) == 4  # type: ignore[arg-type]
    assert len(list((tmp_path / "own").rglob("*.safetensors"))) == 2
    assert latents.read(edits).shape == (2, 3, 2, 4)


def test_what_was_damaged_meanwhile_is_made_anew_and_told(latents: Latents, album: Album, means: Means) -> None:
    pictures = album(3)
    latents.fill(pictures, means, batch=3)  # type: ignore[arg-type]
    before = latents.read(pictures)
    shelf = latents.shelf("photos")
    damaged, gone = (shelf.path(latents.name(p)) for p in pictures[:2])
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    gone.unlink()
    with pytest.raises(DataError, match=r"\.safetensors is not there any more, or was damaged; the job, started again"):
        latents.read(pictures)
    latents.encoder = Means()
    assert torch.equal(latents.read(pictures), before)
    assert latents.encoder.batches == [2] and latents.missing(pictures) == []
    assert any("has other contents than were written: it is made anew" in remark for remark in latents.remarks)


@pytest.mark.parametrize(("when", "kept"), [(When.ON_DEMAND, 2), (When.NEVER, 0)])
def test_on_demand_nothing_is_made_before_and_never_nothing_is_kept(
    album: Album, means: Means, tmp_path: Path, when: When, kept: int
) -> None:
    pictures = album(2)
    latents = Latents(tmp_path / "cache", "vae 1", {"photos": Place(tmp_path / "own", when)}, means)
    assert latents.missing(pictures) == [] and latents.fill(pictures, means) == 0  # type: ignore[arg-type]
    assert torch.equal(latents.read(pictures), latents.read(pictures))
    assert means.batches == ([2] if kept else [2, 2]) and not latents.remarks
    assert len(list(tmp_path.rglob("*.safetensors"))) == kept


def test_embeddings_are_known_by_words_and_encoders_and_tell_what_was_cut(tmp_path: Path, letters: Letters) -> None:
    texts = Texts(tmp_path / "cache", "letters 1", {"photos": Place(tmp_path / "own")})
    asked = [
        Prompt(""),
        Prompt("a cat", "photos"),
        Prompt("a cat", "photos"),
        Prompt("a much longer caption", "photos"),
    ]
    assert texts.fill(asked, letters, batch=2) == 3  # type: ignore[arg-type]
    assert letters.batches == [["", "a cat"], ["a much longer caption"]]
    assert texts.cut(asked) == {"a much longer caption": 5}
    found = texts.read(["", Prompt("a cat", "photos")])
    assert bytes(found[1]["letters"].byte().tolist()) == b"a cat".ljust(16)
    assert len(list((tmp_path / "own").rglob("*.safetensors"))) == 2
    assert texts.missing([Prompt("a dog", "photos"), *asked]) == [Prompt("a dog", "photos")]
    assert len(Texts(tmp_path / "cache", "letters 2", texts.places).missing(asked)) == 3


@pytest.mark.parametrize("when", [When.ON_DEMAND, When.NEVER])
def test_what_is_cut_is_known_before_anything_is_encoded(tmp_path: Path, letters: Letters, when: When) -> None:
    texts = Texts(tmp_path, "letters", {"photos": Place(tmp_path, when)}, letters)
    assert texts.cut([Prompt("a cat", "photos"), Prompt("a much longer caption", "photos")]) == {
        "a much longer caption": 5
    }
    assert letters.batches == []
