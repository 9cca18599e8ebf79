"""Real jobs from the document to the saved model."""

import hashlib
import json
import math
import shutil

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft asks by the old name
def test_a_lora_job_leaves_an_adapter_that_the_stock_loader_takes(job, tiny_model):
    job.custom["precision"] = "bf16"
    job.tuning |= {"eval_ratio": 0.1, "eval_steps": 3, "max_steps": 12, "save_steps": 4, "save_total_limit": 2}
    assert job.run() == 0, job.log

    kinds = [e["type"] for e in job.events()]
    assert kinds[0] == "phase" and kinds[-1] == "end"
    assert [p["phase"] for p in job.events("phase")][:4] == ["preparing", "validating", "preparing", "evaluating"]
    progress = job.events("progress")
    assert [p["step"] for p in progress] == list(range(1, 13))
    told = {"step", "total_steps", "epoch", "loss", "learning_rate", "grad_norm", "tokens_per_second", "eta_seconds"}
    assert set(progress[-1]) == told
    assert [v["step"] for v in job.events("validation")] == [0, 3, 6, 9, 12]
    first, last = (job.events("validation")[i]["metrics"]["eval_loss"] for i in (0, -1))
    assert last < first
    told_of = [(c["step"], c["kind"]) for c in job.events("checkpoint")]
    assert [step for step, kind in told_of if kind == "step"] == [4, 8, 12]
    losses = [v["metrics"]["eval_loss"] for v in job.events("validation")]
    better = [3 * n for n in range(1, len(losses)) if losses[n] < min([*losses[1:n], math.inf])]
    assert [step for step, kind in told_of if kind == "best"] == better
    assert job.steps == ["step-12", "step-9"]
    final = job.output / "final"
    assert job.events("artifact") == [{"step": 12, "uri": str(final), "kind": "final"}]
    assert job.events("end") == [{"step": 12, "final_uri": str(final)}]
    _loads_as_adapter(final, tiny_model)
    _is_told_by_manifest_and_card(job, last)


def _loads_as_adapter(final, base):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(final)
    tokens = tokenizer("Tell me of 3. ", return_tensors="pt").input_ids
    with torch.no_grad():
        before = model(tokens).logits
        after = PeftModel.from_pretrained(model, final)(tokens).logits
    assert not torch.equal(before, after)


def _is_told_by_manifest_and_card(job, eval_loss):
    manifest = json.loads((job.output / "manifest.json").read_text())
    digest = hashlib.sha256(job.data.read_bytes()).hexdigest()
    assert manifest["datasets"][0]["sha256"] == digest
    assert manifest["metrics"]["eval_loss"] == eval_loss
    assert manifest["request"]["tuning_parameters"]["max_steps"] == 12
    assert {"torch", "transformers", "peft", "accelerate"} <= set(manifest["versions"])
    assert manifest["seeds"] == {"seed": 42}
    card = (job.output / "final" / "README.md").read_text()
    assert f"{eval_loss:.4f}" in card and digest in card


def test_a_full_job_on_messages_leaves_a_whole_model_with_its_template(job, tiny_model, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    half = shutil.copytree(tiny_model, tmp_path / "half")
    AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.bfloat16).save_pretrained(half)
    job.base["model_name"] = str(half)
    job.custom = {"method": "full", "precision": "fp32"}
    job.tuning |= {"gradient_checkpointing": True, "num_epochs": 2, "max_steps": None, "lr_scheduler": "cosine"}
    turns = [("user", "How many steps?"), ("assistant", "Eight steps."), ("user", "And then?"), ("assistant", "Done.")]
    job.rows([{"messages": [{"role": r, "content": c} for r, c in turns]}] * 20)
    assert job.run() == 0, job.log
    assert [p["step"] for p in job.events("progress")] == [1, 2, 3, 4, 5, 6]
    assert job.events("progress")[-1]["epoch"] == 2.0
    final = job.output / "final"
    model = AutoModelForCausalLM.from_pretrained(final)
    assert model.config.use_cache is True and model.dtype is torch.bfloat16
    assert "<|im_start|>" in AutoTokenizer.from_pretrained(final).chat_template
    assert any("no chat template" in e["message"] for e in job.events("log"))


def test_accumulation_and_micro_batches_change_nothing_but_memory(new_job):
    curves = []
    for name, micro in (("whole", 8), ("parts", 2)):
        job = new_job(name)
        job.custom["lora_dropout"] = 0.0
        job.tuning |= {"micro_batch_size": micro, "max_steps": 4}
        assert job.run() == 0, job.log
        curves.append(list(job.losses().values()))
    assert curves[0] == pytest.approx(curves[1], rel=1e-4)


def test_fp16_trains_on_a_cpu(job):
    job.custom["precision"] = "fp16"
    job.tuning["max_steps"] = 3
    assert job.run() == 0, job.log
    assert len(job.losses()) == 3
