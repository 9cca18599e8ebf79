"""Objective `dpo`: chosen and rejected answers, by TRL's trainer, told and kept as every other run."""

import json
import signal

import pytest

from tests.tiny import PLAIN_TEXTS
from trainyard.trainer.checkpoints import complete

LONG = 2_000


@pytest.fixture
def pairs(new_job):
    """Makes a job over rows of a prompt, a chosen and a rejected answer."""

    def make(name="dpo", turns=False):
        job = new_job(name)
        rows = [
            {"prompt": f"What of {n}? ", "chosen": text, "rejected": f"no idea of {n % 7}"}
            for n, text in enumerate(PLAIN_TEXTS)
        ]
        if turns:
            rows = [
                {
                    side: [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row[side]}]
                    for side in ("chosen", "rejected")
                }
                for row in rows
            ]
        job.rows(rows)
        job.tuning |= {"objective": "dpo", "learning_rate": 5e-3, "batch_size": 8, "eval_ratio": 0.1, "eval_steps": 10}
        return job

    return make


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_margin_between_chosen_and_rejected_rises_and_is_told(pairs, method):
    job = pairs()
    job.custom = {"method": method, "precision": "fp32", "rank": 4}
    job.tuning |= {"max_steps": 20, "gradient_accumulation_steps": 2}
    assert job.run() == 0, job.log
    steps = job.events("progress")
    assert [data["step"] for data in steps] == list(range(1, 21))
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-3), "the model is its own reference before the first step"
    assert steps[0]["reward_margin"] == pytest.approx(0, abs=1e-4) and steps[-1]["reward_margin"] > 0.2
    assert steps[-1]["reward_accuracy"] > 0.9 and steps[-1]["loss"] < 0.6
    assert all(data["tokens_per_second"] > 0 and data["learning_rate"] > 0 for data in steps)
    held_out = job.events("validation")
    assert [data["step"] for data in held_out] == [0, 10, 20]
    assert held_out[-1]["metrics"]["eval_loss"] < held_out[0]["metrics"]["eval_loss"]
    assert job.steps == ["step-20"] and complete(job.output / "checkpoints" / "step-20")
    manifest = json.loads((job.output / "manifest.json").read_text())
    assert manifest["settings"]["objective"] == "dpo" and manifest["metrics"]["eval_loss_before"] > 0.6
    assert (job.output / "tensorboard").is_dir()
    assert not (job.output / "final" / "ref").exists(), "the reference is no part of the result"


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:.*is_gradient_checkpointing:FutureWarning"
)  # peft asks transformers by the old name
def test_a_stopped_run_goes_on_and_its_adapter_loads_with_stock_peft(pairs, tiny_model):
    job = pairs(turns=True)
    job.tuning |= {"max_steps": LONG, "save_steps": 5, "save_total_limit": 1}
    child = job.start()
    job.wait("checkpoint", child)
    job.command(id="c1", command="checkpoint")
    job.wait("ack", child)
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=200) == 75, job.log
    last = job.events("checkpoint")[-1]
    assert job.events("end")[0]["step"] == last["step"] > 1
    assert job.steps == [f"step-{last['step']}"]

    job.tuning |= {"max_steps": last["step"] + 5}
    assert job.run("2.0") == 0, job.log
    again = job.losses("2.0")
    assert min(again) == last["step"] + 1 and max(again) == last["step"] + 5
    assert again[min(again)] < 0.6, "it goes on from what it had learned"
    assert not any(data["step"] == 0 for data in job.events("validation", "2.0"))
    _loads_and_differs(job.output / "final", tiny_model)


def _loads_and_differs(final, base):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(final)
    assert tokenizer.chat_template
    plain = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.tensor([tokenizer("What of 3? ")["input_ids"]])
    before = plain(ids).logits
    tuned = PeftModel.from_pretrained(plain, final)
    assert list(tuned.peft_config) == ["default"]
    assert (tuned(ids).logits - before).abs().max() > 1e-3


@pytest.mark.slow
def test_a_stop_in_the_middle_of_an_accumulated_step_keeps_the_last_whole_one(pairs):
    job = pairs()
    job.tuning |= {"max_steps": LONG, "micro_batch_size": 1, "logging_steps": 1}
    child = job.start()
    job.wait("progress", child, lambda data: data["step"] >= 2)
    child.send_signal(signal.SIGTERM)
    assert child.wait(timeout=200) == 75, job.log
    assert job.steps == [f"step-{job.events('end')[0]['step']}"]


@pytest.mark.slow
def test_a_loss_that_is_no_number_is_72(pairs):
    job = pairs()
    job.custom = {"method": "full", "precision": "fp32"}
    job.tuning |= {"learning_rate": 1e36, "max_grad_norm": 0, "max_steps": 50}
    assert job.run() == 72, job.log
    assert "nan_loss (72)" in job.log.splitlines()[-1] and "was not taken" in job.log.splitlines()[-1]


def test_an_objective_that_is_not_known_is_refused_with_those_that_are(pairs):
    job = pairs()
    job.tuning["objective"] = "kto"
    assert job.run() == 64, job.log
    assert "'kto' is not one of sft, dpo" in job.log.splitlines()[-1]


def test_fp16_on_a_processor_is_refused_with_what_would_be_right(pairs):
    job = pairs()
    job.custom["precision"] = "fp16"
    assert job.run() == 64, job.log
    assert "give bf16 or fp32" in job.log.splitlines()[-1]
