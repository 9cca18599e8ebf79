"""The loader: the same batches however far it reads ahead, and what goes wrong is raised in the loop."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from attrs import evolve

from tests.unit.trainer.diffusion.cache.conftest import Album, Letters, Means
from trainyard.trainer.diffusion.cache import Latents, Loader, Prompt, Texts
from trainyard.trainer.diffusion.data.batch import Batch, Drawn
from trainyard.trainer.diffusion.data.picture import Picture
from trainyard.trainer.failures import DataError


class InTurn:
    """Two micro batches of two pictures a step, two steps an epoch; captions are dropped in odd epochs."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self.pictures = pictures
        self.asked: list[tuple[int, int]] = []

    def steps(self, epoch: int) -> int:
        return 2

    def step(self, epoch: int, index: int, rank: int) -> list[tuple[Drawn, ...]]:
        self.asked.append((epoch, index))
        first = 4 * index + epoch + rank
        at = [self.pictures[(first + n) % len(self.pictures)] for n in range(4)]
        drawn = [Drawn(p, "" if epoch % 2 else p.captions[0], p.references) for p in at]
        return [tuple(drawn[:2]), tuple(drawn[2:])]


class Stacked:
    def stacked(self, embeddings: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        return {"letters": torch.stack([e["letters"] for e in embeddings])}


@pytest.fixture
def pictures(album: Album) -> list[Picture]:
    edits = album(8, dataset="edits", size=(16, 16))
    return [evolve(p, references=(e, e)) for p, e in zip(album(8), edits, strict=True)]


@pytest.fixture
def caches(pictures: list[Picture], tmp_path: Path) -> tuple[Latents, Texts]:
    latents, texts = Latents(tmp_path / "cache", "vae 1"), Texts(tmp_path / "cache", "letters")
    latents.fill(pictures, Means(), batch=4)  # type: ignore[arg-type]
    texts.fill([Prompt(c, p.dataset) for p in pictures for c in ("", *p.captions)], Letters())  # type: ignore[arg-type]
    return latents, texts


def steps(loader: Loader, places: Sequence[tuple[int, int]]) -> list[Batch]:
    return [batch for place in places for batch in loader.step(*place)]


def equal(one: Batch, other: Batch) -> bool:
    tensors = [(b.latents, b.texts["letters"], b.sizes, *b.references) for b in (one, other)]
    return one.drawn == other.drawn and all(torch.equal(a, b) for a, b in zip(*tensors, strict=True))


def test_a_batch_has_what_each_picture_is_in_the_order_drawn(pictures: list[Picture], caches: tuple) -> None:
    latents, texts = caches
    turned = evolve(pictures[0], frame=evolve(pictures[0].frame, original=(99, 77), left=3, top=5))
    latents.fill([turned], Means())
    batch, _ = Loader(InTurn([turned, *pictures[1:]]), latents, texts, Stacked(), ahead=0).step(0, 0)
    assert torch.equal(batch.latents, latents.read([turned, pictures[1]])) and batch.latents.shape == (2, 3, 2, 4)
    assert batch.sizes.tolist() == [[77, 99, 5, 3, 16, 32], [16, 32, 0, 0, 16, 32]]
    assert [reference.shape for reference in batch.references] == [(2, 3, 2, 2)] * 2
    assert bytes(batch.texts["letters"][1].byte().tolist()) == b"words 1".ljust(16)


@pytest.mark.parametrize("ahead", [1, 3])
def test_reading_ahead_changes_nothing_over_epochs_and_jumps(
    pictures: list[Picture], caches: tuple, ahead: int
) -> None:
    places = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (7, 1), (8, 0), (0, 1)]
    plain = steps(Loader(InTurn(pictures), *caches, Stacked(), 1, ahead=0), places)
    with Loader(InTurn(pictures), *caches, Stacked(), 1, ahead=ahead) as loader:
        assert all(equal(a, b) for a, b in zip(plain, steps(loader, places), strict=True))
    assert not [t for t in threading.enumerate() if t.name == "loader"]


def test_it_reads_ahead_as_far_as_it_may_and_waits_for_nothing_then(pictures: list[Picture], caches: tuple) -> None:
    drawing = InTurn(pictures)
    with Loader(drawing, *caches, Stacked(), ahead=3) as loader:
        loader.step(0, 0)
        first = loader.waited
        late = time.monotonic() + 30
        while len(drawing.asked) < 5 and time.monotonic() < late:  # three lie ready, one is in its hands
            time.sleep(0.01)
        time.sleep(0.05)
        assert drawing.asked == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0)] and first > 0
        loader.step(0, 1)
        assert loader.waited - first < 0.5


@pytest.mark.parametrize("ahead", [0, 2])
def test_what_can_not_be_read_is_raised_by_the_step_that_needs_it(
    pictures: list[Picture], caches: tuple, ahead: int
) -> None:
    latents, _ = caches
    latents.shelf("photos").remove(latents.name(pictures[5]))
    with Loader(InTurn(pictures), *caches, Stacked(), ahead=ahead) as loader:
        loader.step(0, 0)
        for _ in range(2):
            with pytest.raises(DataError, match="not there any more"):
                loader.step(0, 1)


def test_remarks_of_the_thread_are_said_by_the_loop(pictures: list[Picture], caches: tuple) -> None:
    latents, _ = caches
    latents.encoder = Means()
    latents.shelf("photos").path(latents.name(pictures[1])).write_bytes(b"nothing")
    said: list[tuple[str, str]] = []
    with Loader(InTurn(pictures), *caches, Stacked(), say=lambda m, level: said.append((m, level))) as loader:
        loader.step(0, 0)
    assert [level for _, level in said] == ["warning"] and "is no whole safetensors file" in said[0][0]


def test_pictures_of_several_sizes_in_one_batch_are_refused(album: Album, caches: tuple) -> None:
    mixed = [*album(2), *album(2, size=(16, 32))]
    with pytest.raises(DataError, match="pictures of several sizes"):
        Loader(InTurn([mixed[0], mixed[2], mixed[1], mixed[3]]), *caches, Stacked(), ahead=0).step(0, 0)
