"""Where checkpoints are saved as the training goes on, the best by the held-out loss is one of them, and stays."""

from types import SimpleNamespace

import pytest

from tests.tiny import PLAIN_TEXTS

pytestmark = pytest.mark.slow


def test_it_stays_beside_the_newest_and_is_told_as_the_best_and_the_result_is_the_last(here):
    here.tuning |= {"max_steps": 12, "batch_size": 4, "eval_ratio": 0.5, "eval_steps": 2}
    here.tuning |= {"learning_rate": 0.05, "lr_scheduler": "constant", "save_steps": 4, "save_total_limit": 1}
    here.rows([{"text": text} for text in PLAIN_TEXTS[:12]])
    here.train()
    evaluated = {v["step"]: v["metrics"]["eval_loss"] for v in here.events("validation") if v["step"]}
    best = min(evaluated, key=evaluated.__getitem__)
    assert best < 12 and evaluated.keys() == {2, 4, 6, 8, 10, 12}, "few rows at a high rate: it falls, then rises"
    assert here.steps == sorted([f"step-{best}", "step-12"])
    bests = [data["step"] for data in here.events("checkpoint") if data["kind"] == "best"]
    falling = [step for step in evaluated if evaluated[step] == min(evaluated[s] for s in evaluated if s <= step)]
    assert bests == falling and bests[-1] == best
    assert here.manifest["step"] == here.manifest["result_step"] == 12


@pytest.mark.parametrize(("patience", "save_steps", "kept"), [(None, 4, True), (3, None, True), (None, None, False)])
@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_it_is_kept_for_early_stopping_or_where_any_are(here, objective, patience, save_steps, kept):
    from trainyard.trainer.text.evaluation import Evaluation
    from trainyard.trainer.text.preference.report import Telling
    from trainyard.trainer.text.state import Position

    settings, pace = SimpleNamespace(early_stopping_patience=patience), SimpleNamespace(save_steps=save_steps)
    if objective == "sft":
        evaluation = Evaluation([], settings, pace, None, None, 0, None)
        assert evaluation.keeps_the_best is kept
        return
    run, board = here.run(), SimpleNamespace(scalars=lambda *_: None)
    told = Telling(run, settings, SimpleNamespace(first=True), Position(step=4), board, pace, True, None)
    wish = SimpleNamespace(should_save=False)
    names = ("eval_loss", "eval_rewards/margins", "eval_rewards/accuracies")
    for loss, better in ((1.0, True), (2.0, False)):
        wish.should_save, told.kind = False, "step"
        told.on_evaluate(None, SimpleNamespace(global_step=4), wish, dict.fromkeys(names, loss))
        assert (wish.should_save, told.kind) == ((True, "best") if kept and better else (False, "step"))
