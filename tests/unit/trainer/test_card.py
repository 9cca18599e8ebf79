"""The model card and the manifest say what really became of the model."""

from types import SimpleNamespace

import pytest
from peft import LoraConfig

from trainyard.trainer.tally import Tally
from trainyard.trainer.text.card import Card
from trainyard.trainer.text.data.material import Corpus, counted
from trainyard.trainer.text.model.source import Source
from trainyard.trainer.text.settings import read_settings
from trainyard.trainer.text.state import Position


def card(tmp_path, position=None, adapter=None, notes=None, skipped=0, **parts):
    corpus = Corpus(rows=(), sources=(), kinds=frozenset(), without_target=Tally(), skipped=Tally(skipped))
    request = {"base_model": {"provider": "custom", "model_name": "m"}} | parts
    return Card(
        run=SimpleNamespace(spec=SimpleNamespace(job_id="job-1", request=request, all_changes=list)),
        settings=read_settings(request),
        corpus=corpus,
        source=Source("m", tmp_path),
        position=position or Position(step=4),
        adapter=adapter,
        notes=notes or {},
    ).text()


@pytest.mark.parametrize(("epochs", "shown"), [(0.8, "0.8"), (1.4583, "1.46"), (3.0, "3")])
def test_the_epochs_are_the_real_ones(tmp_path, epochs, shown):
    assert f"| epochs | {shown} |" in card(tmp_path, notes={"epochs": epochs})


def test_layers_that_are_all_that_was_trained_are_not_called_trained_besides(tmp_path):
    layers = ["model.norm"]
    whole = card(tmp_path, customization={"method": "full", "trainable_layers": layers})
    assert "| layers trained, and no others | model.norm |" in whole
    beside = card(tmp_path, customization={"method": "lora", "trainable_layers": layers})
    assert "| layers trained besides | model.norm |" in beside


@pytest.mark.parametrize(("result", "shown"), [(3, 3), (None, 5)])
def test_with_early_stopping_the_step_of_the_result_is_told_beside_the_steps_done(tmp_path, result, shown):
    tuning = {"early_stopping_patience": 2, "eval_ratio": 0.1}
    text = card(tmp_path, Position(step=5, result_step=result), tuning_parameters=tuning)
    assert f"| steps | 5 |\n| result of step | {shown} |" in text
    assert "result of step" not in card(tmp_path)


def test_a_preference_objective_trains_without_dropout(tmp_path):
    adapter = LoraConfig(r=8, lora_alpha=16, lora_dropout=0.05)
    assert "(rank 8, alpha 16, dropout off)" in card(tmp_path, adapter=adapter, tuning_parameters={"objective": "dpo"})
    assert "(rank 8, alpha 16, dropout 0.05)" in card(tmp_path, adapter=adapter)


def test_changes_are_listed_each_with_its_step(tmp_path):
    change = {"step": 3, "values": {"tuning_parameters.learning_rate": 0.01, "tuning_parameters.max_steps": 9}}
    text = card(tmp_path, Position(step=9, changes=[change]))
    assert "## Changed while it was trained" in text
    assert "| 3 | tuning_parameters.learning_rate | 0.01 |\n| 3 | tuning_parameters.max_steps | 9 |" in text
    assert "Changed" not in card(tmp_path)


def test_one_row_is_no_rows(tmp_path):
    assert "\n1 row could not be read and was skipped.\n" in card(tmp_path, skipped=1)
    assert "\n2,000 rows could not be read and were skipped.\n" in card(tmp_path, skipped=2000)
    assert counted(1, "token", "tokens") == "1 token"
