"""What is said of a job before it runs: rows, tokens, what is learned, what is trained, and how many steps."""

import json

import numpy as np
import pytest
import torch
from attrs import evolve

from tests.tiny import PLAIN_TEXTS, make_tiny_llama
from trainyard.trainer.failures import DataError
from trainyard.trainer.text.data import Material, look
from trainyard.trainer.text.preflight import sample as samples
from trainyard.trainer.text.preflight.plan import about, examine, plan, steps, tell
from trainyard.trainer.text.preflight.sample import count
from trainyard.trainer.text.settings import read_settings

PAIRS = [{"prompt": f"Tell me of {n}. ", "completion": text} for n, text in enumerate(PLAIN_TEXTS)]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(make_tiny_llama(tmp_path_factory.mktemp("model")))


@pytest.fixture
def corpus(tmp_path):
    def make(rows, **more):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        objective = more.pop("objective", "sft")
        return look([Material(at="datasets[0]", source="rows.jsonl", path=path, **more)], objective=objective)

    return make


def model(layers=3):
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2}
    with torch.device("meta"):
        return LlamaForCausalLM(
            LlamaConfig(vocab_size=512, num_hidden_layers=layers, tie_word_embeddings=True, **sizes)
        )


def settings(**tuning):
    return read_settings({"customization": {"method": "full", "precision": "fp32"}, "tuning_parameters": tuning})


def counted(corpus, tokenizer, longest=64, **tuning):
    return count(corpus, settings(**tuning), tokenizer, longest, lambda: None)


def test_a_small_corpus_is_counted_whole(corpus, tokenizer):
    found = counted(corpus(PAIRS), tokenizer).data(tokenizer)
    real = sum(
        len(tokenizer(r["prompt"])["input_ids"]) + len(tokenizer(r["completion"])["input_ids"]) + 1 for r in PAIRS
    )
    assert (found["rows"], found["tokens"], found["sampled"], found["truncated_share"]) == (64, real, None, 0)


def test_examples_show_text_and_tokens_and_which_of_them_are_learned(corpus, tokenizer):
    first, _, last = counted(corpus(PAIRS), tokenizer).data(tokenizer)["examples"]
    assert first["text"] == "".join(first["tokens"]) and first["place"] == "rows.jsonl:1"
    learned = "".join(t for t, on in zip(first["tokens"], first["loss_mask"], strict=True) if on)
    assert learned == PAIRS[0]["completion"] + "<|end|>" and set(first["loss_mask"]) == {0, 1}
    assert last["place"] == "rows.jsonl:64" and last["length"] == len(last["tokens"])


def test_a_large_corpus_is_sampled_and_still_has_its_longest_row(corpus, tokenizer, monkeypatch):
    monkeypatch.setattr(samples, "ROWS_AT_MOST", 64)
    rows = [{"text": PLAIN_TEXTS[n % 64]} for n in range(1_000)]
    rows[777] = {"text": PLAIN_TEXTS[0] * 20}
    whole = corpus(rows)
    found = counted(whole, tokenizer).data(tokenizer)
    assert found["sampled"]["rows"] < 70 and "one row of every 16" in found["sampled"]["how"]
    assert found["longest_rows"][0]["place"] == "rows.jsonl:778"
    monkeypatch.setattr(samples, "ROWS_AT_MOST", 10_000)
    exact = counted(whole, tokenizer).data(tokenizer)
    assert exact["sampled"] is None and found["tokens"] == pytest.approx(exact["tokens"], rel=0.05)


@pytest.mark.parametrize("streaming", [False, True])
def test_a_weight_counts_rows_as_often_as_an_epoch_takes_them(corpus, tokenizer, streaming):
    found = counted(corpus(PAIRS, weight=2.0, streaming=streaming), tokenizer)
    assert found.data(tokenizer)["rows"] == 128 == len(found.lengths)
    assert steps(found, settings(num_epochs=1)) == 16


def test_cut_rows_and_rows_that_lose_their_target_are_told_apart(corpus, tokenizer):
    rows = [*PAIRS[:2], {"prompt": "so " * 100, "completion": "x"}, {"prompt": "a ", "completion": "so " * 100}]
    found = counted(corpus(rows), tokenizer)
    data = found.data(tokenizer)
    assert (data["truncated_share"], data["untrainable_share"]) == (0.5, 0.25)
    assert found.widest == 64 and len(found.lengths) == 3 and max(e["length"] for e in data["examples"]) > 64
    said = examine(corpus(rows), found, tokenizer, model(), settings(), device_kind="cpu", there=None).warnings
    assert any("50.0% of the rows are longer than 64 tokens" in w for w in said)
    assert any("25.0% of the rows have no target within 64" in w for w in said)


def test_nothing_to_learn_is_refused_with_a_place(corpus, tokenizer):
    with pytest.raises(DataError, match=r"rows.jsonl:1: no row has a target to learn within 8 tokens"):
        counted(corpus([{"prompt": "so " * 100, "completion": "x"}]), tokenizer, 8)


def test_a_preference_counts_its_prompt_with_both_answers(corpus, tokenizer):
    rows = [{"prompt": "Say it. ", "chosen": "A long and good answer.", "rejected": "No."}] * 3
    found = counted(corpus(rows, objective="dpo"), tokenizer, objective="dpo")
    data = found.data(tokenizer)
    assert data["rows"] == 3 and len(found.lengths) == 6 and data["tokens"] == sum(found.lengths)
    chosen, rejected = data["examples"][:2]
    assert chosen["answer"] == "chosen" and chosen["text"].startswith("Say it. A long")
    assert rejected["answer"] == "rejected" and 0 in rejected["loss_mask"] and 1 in rejected["loss_mask"]
    assert steps(found, settings(objective="dpo", num_epochs=4, batch_size=1)) == 12


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        ({"num_epochs": 2}, 16),
        ({"num_epochs": 1, "eval_ratio": 0.25}, 6),
        ({"max_steps": 5}, 5),
        ({"num_epochs": 1, "batch_size": 64}, 1),
        ({"num_epochs": 1, "batch_size": 1, "packing": True}, 32),
    ],
)
def test_steps_follow_from_rows_batches_and_epochs(corpus, tokenizer, tuning, expected):
    rows = [{"text": "a b"}] * 64 if "packing" not in tuning else PAIRS
    longest = 2 * max(counted(corpus(rows), tokenizer, 256).lengths)
    assert steps(counted(corpus(rows), tokenizer, longest), settings(**tuning)) == expected


def test_trained_modules_are_named_once_for_all_layers():
    trained = model().requires_grad_(False)
    for layer in trained.model.layers:
        layer.self_attn.q_proj.requires_grad_(True)
    assert about(trained) == {
        "parameters": sum(p.numel() for p in model().parameters()),
        "trainable_parameters": 3 * 16 * 16,
        "trainable_modules": ["model.layers.*.self_attn.q_proj"],
    }


def test_a_micro_batch_that_was_asked_for_is_kept_and_a_bad_one_is_warned_of():
    chosen = plan(model(), settings(), 64, device_kind="cpu", there=1 << 40, overhead=0)
    asked = plan(model(), settings(micro_batch_size=8), 64, device_kind="cpu", there=1 << 20, overhead=0)
    assert (chosen.settings.micro_batch_size, chosen.warning) == (4, None)
    assert asked.settings.micro_batch_size == 8 and "will hardly fit" in asked.warning
    assert asked.plain()["fits"] is False and asked.plain()["available_bytes"] == 1 << 20


def test_a_job_tells_it_in_one_event(attempt):
    found = plan(model(), evolve(settings(), processes=2), 64, device_kind="cpu", there=1 << 40, overhead=0)
    tell(attempt.report, found, model(), np.array([10, 20, 64]), 1, steps=7)
    (event,) = attempt.data("log")
    assert "94 tokens, the longest row 64, 33.3% cut" in event["message"] and "7 steps" in event["message"]
    assert "8 rows a step (4 at once × 1 × 2 processes)" in event["message"]
    assert event["preflight"]["memory"]["parts"]["weights"] == 0 and event["preflight"]["steps"] == 7
