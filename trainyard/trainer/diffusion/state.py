"""Where a diffusion run stands, and how its record in a checkpoint says it."""

from collections.abc import Mapping
from typing import Any

from attrs import define

from trainyard.trainer import position


@define
class Position(position.Position):
    """Where the run stands."""

    #: The newest step that was validated; -1: none.
    evaluated: int = -1

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Position":
        """As a checkpoint's record tells it."""
        loader, gathered, progress = record["loader"], record["accumulation"], record["progress"]
        return cls(
            step=record["step"],
            epoch=loader["epoch"],
            index=loader["index"],
            loss_sum=gathered["loss_sum"],
            loss_steps=gathered["loss_steps"],
            metrics=dict(progress["metrics"]),
            evaluated=progress["evaluated"],
        )
