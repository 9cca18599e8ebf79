"""How caches are filled and read, as the options say: pictures at once, threads, steps ahead."""

import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from schemas.diffusion import Options
from tests.tiny_diffusion import shared_tiny
from trainyard.trainer.diffusion.cache import fill, prepare
from trainyard.trainer.diffusion.families.flux import Flux
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.processes import World


class Counting(Flux):
    """Flux that remembers how many pictures its VAE took at once."""

    def __init__(self):
        self.batches = []

    def encode(self, vae, pixels, generator=None):
        self.batches.append(len(pixels))
        return super().encode(vae, pixels, generator)


@pytest.fixture
def prepared(tmp_path, tmp_path_factory):
    """Caches of some pictures by options, and the family that filled them."""
    root = shared_tiny("flux", tmp_path_factory)

    def made(pictures=(), **options):
        family, world = Counting(), World.alone(torch.device("cpu"))
        told = Options(model_family="flux", mixed_precision="no", tokenizer_max_length=8, **options)
        rest = {"folder": tmp_path / "cache", "check": lambda: None, "say": lambda *_, **__: None}
        weights = Weights(name="tiny", root=root)
        return prepare(family, weights, told, (), SimpleNamespace(pictures=pictures), world, **rest), family

    return made


@pytest.mark.parametrize(("given", "batches"), [({}, [4, 1]), ({"vae_batch_size": 2}, [2, 2, 1])])
def test_the_vae_takes_as_many_pictures_at_once_as_the_option_says(prepared, album, given, batches):
    _, family = prepared(album(5), text_cache_disable=True, **given)
    assert family.batches == batches


@pytest.mark.parametrize("workers", [1, 3])
def test_so_many_threads_read_pictures_for_the_vae(prepared, album, monkeypatch, workers):
    sizes = []

    class Told(ThreadPoolExecutor):
        def __init__(self, threads, *more):
            sizes.append(threads)
            super().__init__(threads, *more)

    monkeypatch.setattr(fill, "ThreadPoolExecutor", Told)
    prepared(album(2), text_cache_disable=True, max_workers=workers)
    assert sizes[-2:] == [workers, 1], "the last pass is that of the pictures; one thread writes"


class Endless:
    """Steps of nothing; remembers which were asked for."""

    def __init__(self):
        self.asked = []

    def steps(self, epoch):
        return 1_000

    def step(self, epoch, index, rank):
        self.asked.append(index)
        return []


@pytest.mark.parametrize(
    ("given", "ahead"),
    [
        ({}, 2),
        ({"dataloader_prefetch_qlen": 5}, 2),
        ({"dataloader_prefetch": True}, 10),
        ({"dataloader_prefetch": True, "dataloader_prefetch_qlen": 5}, 5),
        ({"text_cache_disable": True}, 0),
        ({"text_cache_disable": True, "dataloader_prefetch": True, "dataloader_prefetch_qlen": 5}, 5),
    ],
)
def test_steps_are_read_ahead_as_far_as_the_options_say(prepared, given, ahead):
    drawing, (caches, _) = Endless(), prepared(**given)
    assert caches.ahead == ahead
    wanted = ahead + 2 if ahead else 1  # one was taken, and one waits for room
    with caches.loader(drawing) as loader:
        loader.step(0, 0)
        until = time.monotonic() + 60
        while len(drawing.asked) < wanted and time.monotonic() < until:
            time.sleep(0.001)
    assert drawing.asked == list(range(wanted))
