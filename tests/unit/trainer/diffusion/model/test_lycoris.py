"""What a LyCORIS adapter drops out while it trains."""

from typing import Any

import pytest
import torch

from schemas.diffusion import Options
from schemas.diffusion.lycoris import LycorisFile, LycorisPreset
from trainyard.trainer.diffusion.model import Precision, put_on

CPU = torch.device("cpu")
UNUSED: Any = None
pytestmark = pytest.mark.slow


class Denoiser(torch.nn.Module):
    """Of one layer that an adapter can be put on."""

    def __init__(self) -> None:
        super().__init__()
        self.to_q = torch.nn.Linear(64, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.to_q(x)
        return found


def spread(algo: Any, mixed: Any) -> tuple[float, list[str]]:
    """How far two passes over the same input are apart, and what was said of the options."""
    options = Options(
        model_type="lora",
        lora_type="lycoris",
        lora_rank=4,
        lora_dropout=0.5,
        mixed_precision=mixed,
        gradient_checkpointing=False,
        lycoris_config=LycorisFile(
            algo=algo, linear_dim=4, factor=4, apply_preset=LycorisPreset(target_name=("to_q",))
        ),
    )
    precision, said = Precision.of(options, CPU), list[str]()
    trained = put_on(Denoiser().to(precision.held), UNUSED, UNUSED, options, precision, said.append)
    for parameter in trained.parameters.values():
        torch.nn.init.ones_(parameter)
    shown = torch.ones(1, 64, dtype=precision.held)
    one, other = trained.denoiser(shown), trained.denoiser(shown)
    trained.network.eval()
    assert trained.denoiser(shown).equal(trained.denoiser(shown)), "a validation drops nothing"
    return (one - other).abs().max().item(), said


@pytest.mark.parametrize("algo", ["lokr", "loha", "locon"])
def test_beside_a_base_in_bf16_every_algorithm_drops_out_what_the_option_says(algo, capsys):
    apart, said = spread(algo, "bf16")
    assert apart > 0 and not said
    assert "WARN" not in capsys.readouterr().out


@pytest.mark.parametrize("algo", ["lokr", "loha", "locon"])
def test_over_a_base_in_fp32_nothing_is_dropped_out_which_is_told(algo):
    apart, said = spread(algo, "no")
    assert apart == 0
    assert said == [f"lora_dropout: {algo} has none over a base in fp32, so that nothing is dropped out"]
