"""Packed rows share a sequence and nothing else."""

import json
import shutil

import numpy as np
import pytest

from trainyard.trainer.failures import ConfigError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # libraries that use each other by old names
]
SHAPE = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}


def tiny(kind: str):
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    own = {
        "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "vocab_size": 300},
        "mamba": {**SHAPE, "state_size": 4},
    }
    more = {"mistral": {"sliding_window": 5}, "gemma": {"head_dim": 8}, "gemma2": {"head_dim": 8, "sliding_window": 5}}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    given = own.get(kind, SHAPE | HEADS | more.get(kind, {})) | ends
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **given))


def rows(*lengths: int):
    from trainyard.trainer.text.tokens.examples import Example

    chance = np.random.default_rng(0)
    return [Example(chance.integers(5, 300, n).astype(np.int32), np.arange(n) >= n // 3) for n in lengths]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral", "gemma", "gemma2", "gpt2"])
def test_rows_that_are_packed_lose_as_much_as_alone_and_teach_the_same(kind):
    import torch

    from trainyard.trainer.text.loss import Loss
    from trainyard.trainer.text.tokens.batches import collate
    from trainyard.trainer.text.tokens.documents import keep_apart

    cpu, some = torch.device("cpu"), rows(9, 20, 2, 31)
    model = tiny(kind).eval()
    loss = Loss(model, None, cpu)
    alone = [loss(collate([[row]], 0, cpu)) for row in some]
    sum(alone).backward()
    taught = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    keep_apart(model, cpu, None)
    together = loss(collate([some[:3], some[3:]], 0, cpu, packed=True))
    together.backward()
    assert together.item() == pytest.approx(sum(a.item() for a in alone), rel=1e-5)
    assert all(torch.allclose(p.grad, t, atol=1e-4) for p, t in zip(model.parameters(), taught, strict=True))

    changed = rows(9, 20, 2, 31)
    changed[0].ids[:] = 7
    with torch.no_grad():
        inputs = [collate([s], 0, cpu, packed=True).inputs for s in (some, changed)]
        before, after = (model(**given, use_cache=False).logits[0, 9:] for given in inputs)
    assert torch.equal(before, after), "the other rows' logits do not move with the first row"
    assert "trainyard" not in json.dumps(model.config.to_dict()), "the saved model names stock attention"


def test_a_model_whose_state_runs_on_is_refused():
    import torch

    from trainyard.trainer.text.tokens.documents import keep_apart

    with pytest.raises(ConfigError, match=r"tuning_parameters\.packing: a mamba model"):
        keep_apart(tiny("mamba"), torch.device("cpu"), None)


def test_a_packed_job_takes_fewer_steps_learns_the_same_tokens_and_goes_on_bit_for_bit(new_here):
    plain, packed = new_here("plain"), new_here("packed")
    for job in (plain, packed):
        job.custom["lora_dropout"] = 0.1
        job.tuning |= {"max_steps": None, "num_epochs": 2, "batch_size": 4, "micro_batch_size": 2, "eval_ratio": 0.1}
    packed.tuning |= {"packing": True, "max_sequence_length": 128, "save_steps": 4}
    plain.train()
    packed.train()
    assert 2 < len(packed.losses()) < len(plain.losses()) / 2
    assert packed.events("validation")[0] == plain.events("validation")[0], "held-out rows are not packed"
    assert (
        packed.events("validation")[-1]["metrics"]["eval_loss"] < packed.events("validation")[0]["metrics"]["eval_loss"]
    )

    whole = packed.losses()
    for step in packed.steps:
        if step != "step-4":
            shutil.rmtree(packed.output / "checkpoints" / step)
    packed.train()
    assert packed.losses() == {step: loss for step, loss in whole.items() if step > 4}
    assert json.loads((packed.output / "final" / "adapter_config.json").read_text())["r"] == 4
