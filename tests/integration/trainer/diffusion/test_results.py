"""What a run leaves is what it drew at its end: a whole SDXL; of a running mean the mean. And what the card says."""

from collections.abc import Callable, Iterator

import pytest
import torch
from safetensors.torch import load_file

from tests.integration.trainer.diffusion.test_families import SHOWN, check, lora, whole

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # stock schedulers and numpy
]
NOTE, SAFE = "Of drawn pictures alone; nothing is promised.", "Its pictures are safe for work."


@pytest.fixture
def tf32() -> Iterator[Callable[..., list[bool]]]:
    """Sets both switches of products that are rounded, where it is given how; and says how they stand."""
    switches = torch.backends.cuda.matmul, torch.backends.cudnn

    def stand(*values: bool) -> list[bool]:
        for switch, value in zip(switches, values, strict=False):
            switch.allow_tf32 = value
        return [switch.allow_tf32 for switch in switches]

    before = stand()
    yield stand
    stand(*before)


def card(here) -> str:
    return (here.output / "final" / "README.md").read_text()


def test_a_whole_sdxl_draws_what_the_run_drew(job, tf32):
    here = job(
        "sdxl",
        model_type="full",
        inference_scheduler_timestep_spacing="leading",
        disable_tf32=True,
        model_card_note=NOTE,
        model_card_safe_for_work=True,
        **SHOWN,
    )
    tf32(True, True)
    here.train()
    assert tf32() == [False, False]
    check(here, whole, negative_prompt="")
    assert here.manifest["parameters"]["trained"] == here.manifest["parameters"]["all"] > 0
    assert NOTE in card(here) and SAFE in card(here)


def test_the_result_of_a_running_mean_is_the_mean_that_the_run_drew(job, tf32):
    given = {"use_ema": True, "ema_decay": 0.25, "ema_validation": "ema_only", "checkpoint_step_interval": 1}
    here = job("flux", **given, **SHOWN)
    tf32(False, False)
    here.train()
    assert tf32() == [True, True]
    check(here, lora, max_sequence_length=512)

    steps = [
        load_file(path) for path in sorted(here.output.glob("checkpoints/step-*/pytorch_lora_weights.safetensors"))
    ]
    final = load_file(here.output / "final" / "pytorch_lora_weights.safetensors")
    assert len(steps) == 3
    for name in (name for name in final if "lora_B" in name):
        mean = torch.zeros_like(final[name])  # as every adapter begins
        for weights in steps:
            mean = mean.lerp(weights[name], 0.75)
        torch.testing.assert_close(final[name], mean)
        assert not torch.allclose(final[name], steps[-1][name])
    assert SAFE not in card(here)
