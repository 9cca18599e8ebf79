"""The loss of a padded batch, and its gradient, are those of its rows alone, as the library itself computes them."""

import numpy as np
import pytest

from tests.tiny import make_tiny_llama

pytestmark = pytest.mark.slow
IGNORED = -100


def rows():
    from trainyard.trainer.text.tokens.examples import Example

    chance = np.random.default_rng(0)
    shapes = ((30, 20), (7, 5), (19, 0))
    return [Example(chance.integers(5, 300, n).astype(np.int32), np.arange(n) >= start) for n, start in shapes]


@pytest.mark.parametrize("picks", [True, False])
def test_padding_and_leaving_out_columns_change_nothing(tmp_path, picks):
    import torch
    from transformers import AutoModelForCausalLM

    from trainyard.trainer.text.loss import Loss
    from trainyard.trainer.text.tokens.batches import collate

    model = AutoModelForCausalLM.from_pretrained(make_tiny_llama(tmp_path / "tiny"))
    alone = 0.0
    for row in rows():
        ids = torch.tensor(row.ids, dtype=torch.long)[None]
        labels = ids.masked_fill(~torch.tensor(row.learned)[None], IGNORED)
        part = model(input_ids=ids, labels=labels).loss * row.targets
        part.backward()
        alone += part.item()
    taught = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()

    loss = Loss(model, None, torch.device("cpu"))
    loss._picks = picks
    together = loss(collate([[row] for row in rows()], 1, torch.device("cpu")), 0.5)
    together.backward()
    assert together.item() == pytest.approx(alone / 2, rel=1e-5)
    assert all(torch.allclose(p.grad * 2, t, atol=1e-4) for p, t in zip(model.parameters(), taught, strict=True))
    with torch.no_grad():
        assert loss(collate([[row] for row in rows()], 1, torch.device("cpu"))).item() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(("type_", "near"), [("float32", 1e-6), ("bfloat16", 1e-2)])
def test_the_gradient_that_takes_the_place_of_the_logits_is_the_librarys(monkeypatch, type_, near):
    import torch
    from torch.nn.functional import cross_entropy

    from trainyard.trainer.text import loss as module

    monkeypatch.setitem(module._AT_ONCE, "cpu", 500)  # several parts
    hidden = torch.randn(37, 8, generator=torch.Generator().manual_seed(0)).to(getattr(torch, type_))
    head = torch.randn(90, 8, generator=torch.Generator().manual_seed(1)).to(getattr(torch, type_))
    targets = torch.arange(37)
    found = []
    for ours in (True, False):
        x = hidden.clone().requires_grad_()
        logits = x @ head.T
        if ours:
            total = module._CrossEntropy.apply(logits, targets, 0.1, True)
        else:
            total = cross_entropy(logits.float(), targets, reduction="sum") * 0.1
        (total * 3).backward()
        found.append((total.item(), x.grad.float()))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    assert (found[0][1] - found[1][1]).abs().max() <= near * found[1][1].abs().max()
