"""Dropout on a CPU: what torch's own does, with fewer random numbers."""

import pytest
import torch

from trainyard.trainer.text.model.dropout import QuickDropout, quicken


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_it_drops_its_share_and_scales_the_rest(p, kind):
    torch.manual_seed(1)
    out = QuickDropout(p)(torch.ones(3, 333, 101, dtype=kind))
    share = (out == 0).float().mean().item()
    assert share == pytest.approx(p, abs=0.01)
    kept = out[out != 0]
    assert (kept == kept[0]).all() and kept[0].item() == pytest.approx(1 / (1 - p), rel=0.01)


def test_values_are_dropped_one_by_one_and_anew_each_time():
    torch.manual_seed(1)
    drop = QuickDropout(0.5)
    first, second = (drop(torch.ones(64, 1000)) == 0 for _ in range(2))
    assert (first & second).float().mean().item() == pytest.approx(0.25, abs=0.01)
    for apart in (1, 2, 3, 4, 1000):
        flat = first.flatten()
        assert (flat[apart:] & flat[:-apart]).float().mean().item() == pytest.approx(0.25, abs=0.01)


def test_the_gradient_goes_where_the_values_went():
    torch.manual_seed(1)
    given = torch.randn(7, 13, requires_grad=True)
    out = QuickDropout(0.3)(given)
    out.sum().backward()
    assert torch.allclose(given.grad * given, out)
    assert ((given.grad == 0) == (out == 0)).all()


def test_torchs_generator_alone_decides():
    drop = QuickDropout(0.3)
    state = torch.get_rng_state()
    first = drop(torch.ones(100))
    torch.set_rng_state(state)
    assert torch.equal(first, drop(torch.ones(100)))


@pytest.mark.parametrize(("p", "training"), [(0.5, False), (0.0, True), (1.0, True)])
def test_all_or_nothing_is_torchs_own(p, training):
    given = torch.ones(5)
    assert torch.equal(QuickDropout(p).train(training)(given), torch.nn.Dropout(p).train(training)(given))


def test_the_layers_of_a_model_are_exchanged_and_its_weights_are_not_touched():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ModuleDict({"default": torch.nn.Dropout(0.1)}))
    before = list(model.state_dict())
    quicken(model)
    assert isinstance(model[1]["default"], QuickDropout) and model[1]["default"].p == 0.1
    assert list(model.state_dict()) == before
