"""Where a picture's noise is drawn, and at which times a sampler looks at it."""

import pytest
import torch

NAME = "validation-32x32-1.png"
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"
)  # of diffusers' schedulers


@pytest.mark.parametrize(("given", "drawn_on"), [({}, "cpu"), ({"validation_seed_source": "gpu"}, "cpu:0")])
@pytest.mark.parametrize("family", ["flux", "pixart_sigma", "sdxl"])
def test_noise_is_drawn_on_the_device_only_where_that_is_asked_for(new_studio, monkeypatch, family, given, drawn_on):
    """The device has a number here, by which it is told from the CPU of the option."""
    seen = []

    class Told(torch.Generator):
        def __new__(cls, device="cpu"):
            seen.append(str(device))
            return super().__new__(cls, device=device)

    studio = new_studio(family)
    studio.embedded("a red circle"), studio.embedded("")
    monkeypatch.setattr("tests.unit.trainer.diffusion.validation.studio.CPU", torch.device("cpu", 0))
    monkeypatch.setattr(torch, "Generator", Told)
    studio.drawn(**given)
    assert drawn_on in seen and not {"cpu", "cpu:0"} - {drawn_on} & set(seen)


@pytest.mark.parametrize("family", ["sdxl", "pixart_sigma"])
def test_every_spacing_of_the_sampler_s_steps_draws_a_picture_of_its_own(new_studio, family):
    studio = new_studio(family)
    spacings = ("leading", "linspace", "trailing")
    found = {name: studio.drawn(inference_scheduler_timestep_spacing=name)[NAME] for name in spacings}
    assert len(set(found.values())) == len(found)
