"""Every optimizer learns, leaves out what has no state of its own, and goes on bit for bit."""

import shutil

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor"])
def test_an_optimizer_learns_and_goes_on_bit_for_bit(here, name):
    here.custom = {"method": "full", "precision": "fp32"}
    here.tuning |= {"optimizer": name, "max_steps": 8, "save_steps": 4, "batch_size": 4, "weight_decay": 0.1}
    here.tuning |= {"lr_scheduler": "constant", "micro_batch_size": 2}
    here.train()
    whole = here.losses()
    assert whole[8] < whole[1] - 0.1
    shutil.rmtree(here.output / "checkpoints" / "step-8")
    here.train()
    assert here.losses() == {step: loss for step, loss in whole.items() if step > 4}


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit"])
def test_large_weights_have_a_state_of_8_bits_but_embeddings_do_not(name):
    import torch

    from trainyard.trainer.text.optimizers import make_optimizer
    from trainyard.trainer.text.settings import read_settings

    model = torch.nn.Sequential(torch.nn.Embedding(128, 64), torch.nn.Linear(64, 128, bias=False))
    settings = read_settings({"tuning_parameters": {"optimizer": name}})
    optimizer = make_optimizer(settings, [{"params": list(model.parameters()), "weight_decay": 0.0}], model)
    model(torch.arange(10)).square().sum().backward()
    optimizer.step()
    states = [optimizer.state[p]["state1"].dtype for p in model.parameters()]
    assert states == [torch.float32, torch.uint8]


def test_adafactor_takes_the_rate_as_it_is_and_keeps_less():
    import torch

    from trainyard.trainer.text.optimizers import make_optimizer
    from trainyard.trainer.text.settings import read_settings

    steps = []
    for rate in (1e-3, 1e-2):
        weight = torch.nn.Parameter(torch.ones(64, 32))
        settings = read_settings({"tuning_parameters": {"optimizer": "adafactor", "learning_rate": rate}})
        optimizer = make_optimizer(settings, [{"params": [weight], "weight_decay": 0.0}], torch.nn.Module())
        (weight * torch.arange(32.0)).sum().backward()
        optimizer.step()
        steps.append((1 - weight.detach()).abs().max().item())
        assert sum(v.numel() for v in optimizer.state[weight].values() if isinstance(v, torch.Tensor)) < 64 * 32 / 2
    assert steps[1] == pytest.approx(10 * steps[0], rel=1e-2)
