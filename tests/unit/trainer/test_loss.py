"""The loss of a padded batch is that of its rows alone, as the library itself computes it."""

import numpy as np
import pytest

from tests.tiny import make_tiny_llama

pytestmark = pytest.mark.slow
IGNORED = -100


@pytest.mark.parametrize("picks", [True, False])
def test_padding_and_leaving_out_columns_change_nothing(tmp_path, picks):
    import torch
    from transformers import AutoModelForCausalLM

    from trainyard.trainer.text.batches import collate
    from trainyard.trainer.text.loss import Loss
    from trainyard.trainer.text.tokens import Example

    model = AutoModelForCausalLM.from_pretrained(make_tiny_llama(tmp_path / "tiny"))
    chance = np.random.default_rng(0)
    rows = [
        Example(chance.integers(5, 300, length).astype(np.int32), np.arange(length) >= start)
        for length, start in ((30, 20), (7, 5), (19, 0))
    ]
    alone = 0.0
    with torch.no_grad():
        for row in rows:
            ids = torch.tensor(row.ids, dtype=torch.long)[None]
            labels = ids.masked_fill(~torch.tensor(row.learned)[None], IGNORED)
            alone += model(input_ids=ids, labels=labels).loss.item() * row.targets
        loss = Loss(model, "fp32", torch.device("cpu"))
        loss._picks = picks
        together = loss(collate(rows, 1, torch.device("cpu"))).item()
    assert together == pytest.approx(alone, rel=1e-5)
    assert loss.held_out(rows, 1, lambda: None)["eval_loss"] == pytest.approx(
        alone / sum(r.targets for r in rows), rel=1e-5
    )
