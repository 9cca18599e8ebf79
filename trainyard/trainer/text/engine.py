"""What can be known about a text job before torch is imported; then the loop of its objective."""

from collections.abc import Callable
from importlib import import_module

from trainyard.trainer.checkpoints import Checkpoints
from trainyard.trainer.imports import list_models_once, quickly
from trainyard.trainer.looking import Looking
from trainyard.trainer.run import Result, Run
from trainyard.trainer.sources.datasets import remote
from trainyard.trainer.sources.how import how_of
from trainyard.trainer.sources.output import copied
from trainyard.trainer.text.data import Corpus, look
from trainyard.trainer.text.data.material import counted
from trainyard.trainer.text.materials import materials
from trainyard.trainer.text.quantiser import UNUSED, leave_out
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.strategy import checked_settings

_NAMED = 3
_OBJECTIVES = {"sft": "trainyard.trainer.text.train", "dpo": "trainyard.trainer.text.preference.train"}


def start(run: Run) -> Result:
    """Look at the document, the output folder and the data; load nothing before they are good."""
    settings = checked_settings(run.spec.request, run.spec.processes)
    loop = _OBJECTIVES[settings.objective]
    checkpoints = Checkpoints(run.spec.output, run.spec.uid, run.claim.pair, run.fence.check, run.spec.spare_bytes)
    checkpoints.claim()
    with copied(run, checkpoints) as kept:
        try:
            return _trained(run, settings, kept, loop)
        finally:
            kept.finishing.settle()


def _trained(run: Run, settings: Settings, checkpoints: Checkpoints, loop: str) -> Result:
    looking = Looking(run, checkpoints)

    if remote(run.spec.request):
        run.report.phase("downloading")
    found = materials(run.spec.request, run.secrets, job_id=run.spec.job_id, **how_of(run))
    run.report.phase("validating")
    corpus = look(
        found,
        on_bad_row=settings.on_bad_row,
        objective=settings.objective,
        seed=settings.seed,
        check=run.control.check,
    )
    _tell(run, corpus)

    run.report.phase("preparing")
    leave_out(settings)
    with run.control.interruptible(), quickly(*UNUSED):
        list_models_once()
        train: Callable[..., Result] = import_module(loop).train
    return train(run, settings, corpus, checkpoints, looking.newest())


def _tell(run: Run, corpus: Corpus) -> None:
    read = ", ".join(f"{s.name or s.path.name}: {counted(s.rows)}" for s in corpus.sources)
    run.report.log(f"read {read}")
    for tally, what in (
        (corpus.skipped, "bad and left out"),
        (corpus.without_target, "without a target to learn and left out"),
    ):
        if tally:
            named = ", ".join(tally[:_NAMED]) + (" …" if len(tally) > _NAMED else "")
            run.report.log(f"{counted(len(tally), 'row is', 'rows are')} {what}: {named}", level="warning")
