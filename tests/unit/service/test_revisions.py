"""A document with changed values."""

import pytest

from schemas.asked import Asked
from schemas.diffusion.request import read_job
from service.revisions import put

DOCUMENT = {
    "base_model": {"model_name": "owner/name"},
    "datasets": [{"source": "/data/pictures", "format": "imagefolder"}],
    "extra_parameters": {
        "engine": "diffusion",
        "model_family": "flux",
        "learning_rate": 1e-3,
        "max_train_steps": 10,
        "num_train_epochs": 0,
        "checkpointing_steps": 5,
    },
}


@pytest.mark.parametrize(
    ("path", "value", "option"),
    [
        ("tuning_parameters.learning_rate", 0.5, "learning_rate"),
        ("tuning_parameters.max_steps", 20, "max_train_steps"),
        ("tuning_parameters.save_steps", 2, "checkpoint_step_interval"),
        ("tuning_parameters.eval_steps", 3, "validation_step_interval"),
    ],
)
def test_a_change_wins_over_the_option_that_says_the_same(path: str, value: float, option: str) -> None:
    changed = put(DOCUMENT, {path: value})
    job, errors = read_job(changed, 1, Asked(changed).__contains__)
    assert job is not None, errors
    assert getattr(job.options, option) == value
    assert DOCUMENT["extra_parameters"]["checkpointing_steps"] == 5  # type: ignore[index]


def test_other_documents_keep_their_keys() -> None:
    text = {"extra_parameters": {"learning_rate": "of a backend"}}
    assert put(text, {"tuning_parameters.learning_rate": 1})["extra_parameters"] == text["extra_parameters"]
