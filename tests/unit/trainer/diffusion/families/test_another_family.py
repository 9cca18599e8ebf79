"""A family is added by one file: it is found by its name, and trained through the functions that every family has."""

import sys
from pathlib import Path

import pytest
import torch

from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.families.family import Family, Shown
from trainyard.trainer.diffusion.loss import loss
from trainyard.trainer.diffusion.weights import Weights

CPU = torch.device("cpu")


@pytest.fixture
def another(monkeypatch):
    monkeypatch.setattr(families, "__path__", [*families.__path__, str(Path(__file__).parent / "another")])
    yield
    sys.modules.pop(f"{families.__name__}.averages", None)


def test_a_family_of_another_folder_is_listed_found_and_learns(another, exact, tmp_path):
    assert "averages" in families.names()
    family, options = families.find("averages"), exact(flow_use_uniform_schedule=True)
    weights = Weights(name="x", root=tmp_path)
    assert family.check(weights, options) == ["x has no unet"]

    torch.manual_seed(0)
    denoiser, noise = family.denoiser(weights, options, CPU), family.noise(weights, options)
    texts = family.stacked(family.texts(weights, options, CPU).encode(["a", "star"]))
    latents = family.encode(family.vae(weights, options, CPU), torch.rand(2, 3, 64, 64))
    optimizer = torch.optim.SGD(denoiser.parameters(), lr=0.05)

    def step():
        noised = noise.draw(latents, torch.Generator().manual_seed(1))
        shown = Shown(noised.latents, noised.timesteps, texts, torch.zeros(2, 6), guidance=None)
        found = loss(family.predict(denoiser, shown), noised, options)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        return found.item()

    first, *_, last = [step() for _ in range(5)]
    assert last < first


def test_all_families_have_everything_that_a_family_is_asked_for():
    asked = {name for name in (*vars(Family), *Family.__annotations__) if not name.startswith("_")}

    for name in families.names():
        assert {one for one in asked if not hasattr(families.find(name), one)} == set(), name
