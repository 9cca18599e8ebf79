"""Options that say where something lies: the running mean on a device, the U-Net in a folder."""

import pytest
import torch

from schemas.diffusion import Options
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.ema import Average
from trainyard.trainer.diffusion.source import gathered


class Placed(Average):
    """Says on which device it was put, and puts itself on none."""

    def __init__(self, parameters, decay, every, warmup, device) -> None:
        self.device = device
        super().__init__(parameters, decay, every, warmup, torch.device("cpu"))


@pytest.mark.parametrize(("given", "there"), [("cpu", "cpu"), ("accelerator", "cuda:1")])
def test_the_mean_lies_on_the_device_of_the_option(given, there):
    weights = {"w": torch.nn.Parameter(torch.ones(2))}
    made = Placed.of(weights, Options(use_ema=True, ema_device=given), torch.device("cuda", 1))
    assert str(made.device) == there


def test_a_mean_is_made_on_the_device_that_it_is_given():
    weights = {"w": torch.nn.Parameter(torch.ones(2, dtype=torch.bfloat16))}
    made = Average(weights, 0.9, 1, 0, torch.device("meta"))
    assert {mean.device.type for mean in made._mean.values()} == {"meta"} and made._behind is not None


@pytest.mark.parametrize(("given", "folder"), [({}, "unet"), ({"pretrained_unet_subfolder": "fine"}, "fine")])
def test_the_unet_lies_in_the_folder_of_the_option(tmp_path, given, folder):
    for path in ("base/model_index.json", "other/unet/config.json", "other/fine/config.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    asked = []

    def fetched(name, revision, option, only):
        asked.append((name, tuple(only)))
        return tmp_path / name, False

    named = {"pretrained_model_name_or_path": "base", "pretrained_unet_model_name_or_path": "other"}
    found = gathered(Options(model_family="sdxl", **named, **given), families.find("sdxl"), fetched)

    assert found.parts == {"unet": tmp_path / "other" / folder}
    assert ("other", (folder,)) in asked
