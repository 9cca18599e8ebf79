"""Options of what a run tells, and of the scripts that it starts."""

from functools import partial
from typing import Literal

from attrs import frozen

from schemas.diffusion.option import option
from schemas.diffusion.validation_options import ValidationOptions
from schemas.train_terms import AtLeastOne, Text

Tracker = Literal["tensorboard", "wandb"]

_reporting = partial(option, "reporting")


@frozen(kw_only=True)
class ReportingOptions(ValidationOptions):
    """Who is told what."""

    report_to: tuple[Tracker, ...] = _reporting(
        (),
        "where curves are also written; none: nowhere",
        values={"none": [], "all": ["tensorboard", "wandb"]},
        later=("swanlab", "comet_ml", "simpletuner", "custom-tracker"),
    )
    tracker_project_name: Text = _reporting("simpletuner", "project, for curves and scripts")
    tracker_run_name: Text = _reporting("simpletuner-testing", "run, for curves and scripts")
    logging_steps: AtLeastOne = _reporting(1, "steps between reports of progress")
    model_card_note: Text | None = _reporting(None, "a remark for the model card")
    model_card_safe_for_work: bool = _reporting(False, "say in the model card that its pictures are safe for work")
    post_checkpoint_script: Text | None = _reporting(None, "command line that is started after each checkpoint")
    post_upload_script: Text | None = _reporting(None, "command line that is started when the result is uploaded")
