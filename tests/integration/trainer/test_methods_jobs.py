"""A job of each method as a process of its own, from the document to a result with its card and manifest."""

import json

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny import make_tiny_llama

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning"),  # peft asks by the old name
    pytest.mark.filterwarnings("ignore:The following rank_pattern keys:RuntimeWarning"),  # AdaLoRA's own names for them
]
PROMPTS = {"config": {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 4}}
ADALORA = {"config": {"peft_type": "ADALORA"}}


def card_of(job):
    text = (job.output / "final" / "README.md").read_text()
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return text, {row[0]: row[1] for row in cells if len(row) == 2}


def manifest_of(job):
    return json.loads((job.output / "manifest.json").read_text())


def test_qlora_merged_tells_what_it_is(job, tmp_path):
    job.base["model_name"] = str(make_tiny_llama(tmp_path / "wide", hidden=64))
    job.custom |= {"method": "qlora", "precision": "bf16", "qlora": {"use_double_quant": True}}
    job.extra["merge"] = True
    job.tuning |= {"eval_ratio": 0.1, "batch_size": 8, "micro_batch_size": 4}
    assert job.run() == 0, job.log
    text, told = card_of(job)
    assert "A LoRA adapter (rank 4, alpha 32, dropout 0.05), merged into its base, fine-tuned from" in text
    assert "library_name: transformers" in text and "AutoModelForCausalLM.from_pretrained" in text
    assert told["base held in"] == "4 bits (nf4, double quantisation)"
    assert told["batch size"] == "8 (4 × 2)" and (told["steps"], told["epochs"]) == ("6", "0.75")
    first, last = (job.events("validation")[n]["metrics"]["eval_loss"] for n in (0, -1))
    assert last < first and told["held-out loss after"] == f"{last:.4f}"
    manifest = manifest_of(job)
    assert manifest["merged"] is True and manifest["settings"]["method"] == "qlora"
    trained, all_of_them = manifest["parameters"]["trained"], manifest["parameters"]["all"]
    assert told["parameters trained"] == f"{trained:,} of {all_of_them:,}" and trained < all_of_them
    assert manifest["memory"]["peak_bytes"] > 0 and manifest["skipped"] == {"rows": 0, "first": []}
    assert AutoModelForCausalLM.from_pretrained(job.output / "final").num_parameters() > 0


@pytest.mark.parametrize("peft", [PROMPTS, ADALORA], ids=["prompts", "adalora"])
def test_a_peft_job_is_stopped_and_goes_on_to_its_end(job, tiny_model, peft):
    from peft import PeftModel

    job.custom |= {"method": "peft", "peft": peft}
    job.tuning |= {"max_steps": 4, "eval_ratio": 0.1}
    assert job.run() == 0, job.log
    job.tuning["max_steps"] = 6
    assert job.run("2.0") == 0, job.log
    assert [p["step"] for p in job.events("progress", "2.0")] == [5, 6]
    assert PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny_model), job.output / "final")
    assert card_of(job)[0].count(peft["config"]["peft_type"]) >= 1


def test_an_adapter_is_gone_on_with(new_job):
    first, second = new_job("first"), new_job("second")
    assert first.run() == 0, first.log
    second.base["model_name"] = str(first.output / "final")
    second.custom["method"] = "adapter"
    assert second.run() == 0, second.log
    assert second.losses()[6] < first.losses()[6]
    text, _ = card_of(second)
    assert f"trained on from `{first.output / 'final'}`, an adapter of" in text
    assert manifest_of(second)["base"]["adapter"] == str(first.output / "final")


def test_from_scratch_with_nothing_but_a_configuration(job, tiny_model, tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text((tiny_model / "config.json").read_text())
    job.base["model_name"] = str(bare)
    job.custom |= {"method": "scratch"}
    assert job.run() == 0, job.log
    assert job.losses()[6] < job.losses()[1]
    tokenizer = AutoTokenizer.from_pretrained(job.output / "final")
    assert tokenizer.decode(tokenizer("Job number 7")["input_ids"]) == "Job number 7"
    assert "trained from random weights" in card_of(job)[0]


def test_layers_besides_that_mean_nothing_are_told_as_a_warning(job):
    job.custom["trainable_layers"] = ["model.norms", "model.norm"]
    assert job.run() == 0, job.log
    told = [e["message"] for e in job.events("log") if e["level"] == "warning"]
    assert any("'model.norms'" in message and "model.norm" in message for message in told)
    assert card_of(job)[1]["layers trained besides"] == "model.norms, model.norm"


@pytest.mark.parametrize(
    ("custom", "code", "said"),
    [
        ({"method": "full", "precision": "int8"}, 64, "'int8' quantises a frozen base"),
        (
            {"method": "peft", "peft": {"config": {"peft_type": "LORA", "rnk": 3}}},
            64,
            "config.rnk: LORA has no such key",
        ),
        ({"target_modules": ["nothing"]}, 64, "customization.target_modules: 'nothing' is no module"),
        ({"method": "full", "trainable_layers": ["model.leyers"]}, 64, "'model.leyers' is the beginning of no module"),
    ],
)
def test_what_can_not_be_run_ends_before_it_begins(job, custom, code, said):
    job.custom |= custom
    assert job.run() == code, job.log
    assert said in job.log.splitlines()[-1]
    assert job.events("progress") == []
