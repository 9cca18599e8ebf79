"""What can be known about a text job before torch is imported; then the loop."""

from trainyard.trainer.checkpoints import Checkpoints
from trainyard.trainer.run import Result, Run
from trainyard.trainer.text.rows import Corpus, look
from trainyard.trainer.text.settings import dataset_paths, read_settings

_NAMED = 3


def start(run: Run) -> Result:
    """Look at the document, the output folder and the data; load nothing before they are good."""
    settings = read_settings(run.spec.request)
    paths = dataset_paths(run.spec.request)
    checkpoints = Checkpoints(run.spec.output, run.spec.uid, run.claim.pair, run.fence.check, run.spec.spare_bytes)
    checkpoints.claim()
    newest = checkpoints.newest()
    if newest is not None:
        run.control.saved_step = run.report.step = newest.step

    run.report.phase("validating")
    corpus = look(paths, run.control.check)
    _tell(run, corpus)

    run.report.phase("preparing")
    with run.control.interruptible():
        from trainyard.trainer.text.train import train
    return train(run, settings, corpus, checkpoints, newest)


def _tell(run: Run, corpus: Corpus) -> None:
    read = ", ".join(f"{s.path.name}: {s.rows} rows" for s in corpus.sources)
    run.report.log(f"read {read}")
    if corpus.without_target:
        named = ", ".join(corpus.without_target[:_NAMED])
        run.report.log(
            f"{len(corpus.without_target)} rows have no target to learn and are left out: {named}"
            + (" …" if len(corpus.without_target) > _NAMED else ""),
            level="warning",
        )
