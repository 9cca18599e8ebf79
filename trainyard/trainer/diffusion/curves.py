"""Where the numbers of a run are written besides its events, as `report_to` says."""

from collections.abc import Mapping

from schemas.diffusion import Options
from trainyard.trainer.board import Board
from trainyard.trainer.diffusion.weights_and_biases import WeightsAndBiases
from trainyard.trainer.run import Run


class Curves:
    """Every place in turn, by the first process. Libraries are imported with the first number."""

    def __init__(self, options: Options, run: Run) -> None:
        self._options, self._run = options, run
        self._boards: list[Board | WeightsAndBiases] | None = None
        self._resumed_at = 0

    def from_step(self, step: int) -> "Curves":
        """Numbers of later steps than this one will come; those that older runs wrote of them are void."""
        self._resumed_at = step
        return self

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """The values of one step, by name."""
        if self._run.claim.rank:
            return
        if self._boards is None:
            self._boards = [self._board(name) for name in dict.fromkeys(self._options.report_to)]
        for board in self._boards:
            board.scalars(step, values)

    def close(self, good: bool) -> None:
        """The run is over; what is still on its way gets there, or it is told that it did not."""
        for board in self._boards or ():
            if isinstance(board, WeightsAndBiases):
                board.close(good)

    def _board(self, name: str) -> Board | WeightsAndBiases:
        if name == "wandb":
            return WeightsAndBiases(self._options, self._run)
        return Board(self._run.spec.output, str(self._run.claim.pair), self._resumed_at)
