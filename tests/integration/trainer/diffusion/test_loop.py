"""What the loop does with options that say how it trains; each test fails where the option is not followed."""

import json

import pytest
import torch

from trainyard.trainer.failures import ConfigError, NanLoss

pytestmark = pytest.mark.slow


def curve(job, folder: str, **options) -> list[float]:
    here = job("flux", folder, **({"max_train_steps": 3, "learning_rate": 1e-2, "lr_scheduler": "constant"} | options))
    here.train()
    return list(here.losses().values())


_KNOWN: dict[str, list[float]] = {}


@pytest.fixture
def undisturbed(job):
    """The curve of a job with few options; computed once."""

    def known(**options) -> list[float]:
        name = str(options)
        if name not in _KNOWN:
            _KNOWN[name] = curve(job, "plain", **options)
        return _KNOWN[name]

    return known


def test_the_learning_rate_follows_the_scheduler_and_the_changes(job):
    here = job("flux", max_train_steps=6, learning_rate=0.01, lr_scheduler="constant", lr_warmup_steps=2)
    here.changes = [{"step": 4, "values": {"tuning_parameters.learning_rate": 0.5}}]
    given = {"step": 0, "values": {"backend": "elsewhere"}}  # by a resume: the document has it already
    plain = here.spec
    here.spec = lambda: plain() | {"recorded": [given]}
    here.train()
    rates = [data["learning_rate"] for data in here.events("progress")]
    assert rates == pytest.approx([0.0, 0.005, 0.01, 0.01, 0.5, 0.5])
    assert here.manifest["changes"] == [given, *here.changes]
    assert "| 0 | backend | elsewhere |" in (here.output / "final" / "README.md").read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"max_grad_norm": 1e-6, "grad_clip_method": "norm", "optimizer": "torch-sgd"},
        {"max_grad_norm": 1e-6, "grad_clip_method": "value", "optimizer": "torch-sgd"},
        {"mixed_precision": "bf16"},
        {"base_model_precision": "int8-quanto"},
        {"use_dora": True, "lora_init_type": "gaussian"},
        {"flux_lora_target": "mmdit"},
        {"lora_alpha": 64.0},
        {"lora_dropout": 0.5},
        {"seed": 8},
    ],
    ids=lambda options: "-".join(map(str, options)),
)
def test_options_that_change_the_curve(job, undisturbed, options):
    plain = {"optimizer": "torch-sgd", "max_grad_norm": 0} if "optimizer" in options else {}
    assert curve(job, "other", **options) != undisturbed(**plain)


def test_the_same_options_have_the_same_curve(job, undisturbed):
    assert curve(job, "again") == undisturbed()


def test_gradient_checkpointing_changes_nothing_but_memory(job):
    assert curve(job, "with", gradient_checkpointing=True) == pytest.approx(curve(job, "without"), rel=1e-5)


def test_epochs_decide_how_long_where_no_steps_are_given(job):
    here = job("flux", num_train_epochs=2, max_train_steps=0, gradient_accumulation_steps=2)
    assert here.train().step == 6
    assert here.events("progress")[-1]["epoch"] == 2.0


def test_a_loss_that_is_no_number_ends_the_run_and_what_was_learned_is_kept(job, monkeypatch):
    from trainyard.trainer.diffusion import step

    here, real = job("flux", max_train_steps=5), step.loss

    def spoilt(said, noised, options):
        """Only of what the third step learns from: the weights are sound."""
        third = torch.is_grad_enabled() and len(here.events("progress")) == 2
        return real(said, noised, options) * (torch.nan if third else 1)

    monkeypatch.setattr(step, "loss", spoilt)
    with pytest.raises(NanLoss, match="step 3 came to a loss of nan"):
        here.train()
    assert here.steps == ["step-2"]
    monkeypatch.setattr(step, "loss", real)
    here.train()
    assert here.losses().keys() == {3, 4, 5}


def test_curves_go_to_tensorboard_where_that_is_asked_for(job):
    with_it, without = job("flux", "with", report_to="tensorboard"), job("flux", "without")
    for here in (with_it, without):
        here.train()
    assert len(list((with_it.output / "tensorboard").iterdir())) == 1
    assert not (without.output / "tensorboard").exists()


def test_modules_that_are_not_there_are_named_with_the_option(job):
    here = job("flux", peft_lora_target_modules=["no_such_module"])
    with pytest.raises(ConfigError, match=r"extra_parameters\.peft_lora_target_modules: .*no_such_module"):
        here.train()
    config = {"algo": "lokr", "apply_preset": {"target_module": ["X"]}}
    other = job("flux", "b", lora_type="lycoris", lycoris_config=config)
    other.options = {k: v for k, v in other.options.items() if k not in ("lora_rank", "lora_dropout")}
    with pytest.raises(ConfigError, match=r"extra_parameters\.lycoris_config\.apply_preset: none of X is in Flux"):
        other.train()


def test_two_processes_learn_what_one_does_and_the_first_one_draws(job):
    shown = {"validation_prompt": "a red circle", "validation_num_inference_steps": 2, "validation_resolution": "32x32"}
    options = {"max_train_steps": 4, "learning_rate": 1e-2, "validation_preview": True, **shown}
    one = job("flux", "one", gradient_accumulation_steps=2, **options)
    two = job("flux", "two", **options)
    one.train()
    two.more = {"processes": 2}
    child = two.start()
    assert child.wait(timeout=280) == 0, two.log
    assert list(two.losses().values()) == pytest.approx(list(one.losses().values()), rel=1e-4)
    assert json.loads((two.output / "manifest.json").read_text())["step"] == 4
    made = [sorted(p.name for p in (job.output / "validation" / "step-4").rglob("*.png")) for job in (one, two)]
    assert made[0] == made[1] != []
