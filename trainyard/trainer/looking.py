"""Where a run goes on from, found out while data is read and libraries are imported."""

import time

from trainyard.trainer.checkpoints import Checkpoint, Checkpoints
from trainyard.trainer.finishing import Finishing
from trainyard.trainer.run import Run

_SECONDS = 0.02


class Looking:
    """Compares the sums of the newest checkpoint in a thread: a second a GB that nobody has to wait for.

    Until they are known the run stands at the checkpoint that looks whole.
    """

    def __init__(self, run: Run, checkpoints: Checkpoints) -> None:
        self._run = run
        self._found: list[Checkpoint | None] = []
        self._work: Finishing[Checkpoint | None] = Finishing()
        self._stand_at(checkpoints.in_size())
        self._work.begin(checkpoints.newest, self._found.append)

    def newest(self) -> Checkpoint | None:
        """The newest complete checkpoint; a stop is looked at while it is waited for. Raises `Stopped`."""
        self._work.look()
        while not self._found:
            self._run.control.check()
            time.sleep(_SECONDS)
            self._work.look()
        self._stand_at(self._found[0])
        return self._found[0]

    def _stand_at(self, checkpoint: Checkpoint | None) -> None:
        self._run.report.step = 0 if checkpoint is None else checkpoint.step
        self._run.control.saved_step = None if checkpoint is None else checkpoint.step
