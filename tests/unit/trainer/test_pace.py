"""What may change while a run goes on."""

import pytest
import torch

from trainyard.trainer.failures import ConfigError
from trainyard.trainer.processes import World
from trainyard.trainer.text.pace import Pace
from trainyard.trainer.text.settings import read_settings
from trainyard.trainer.text.state import Position

ALONE = World.alone(torch.device("cpu"))


def pace(**tuning) -> Pace:
    return Pace.of(read_settings({"tuning_parameters": tuning}), in_epoch=10)


def test_a_changed_number_of_steps_moves_the_end_and_the_slope_to_it():
    made = pace(num_epochs=2, learning_rate=1.0)
    assert (made.total, made.rate(10)) == (20, 0.5)
    made.change({"tuning_parameters.max_steps": 40})
    assert (made.total, made.rate(10)) == (40, 0.75)


def test_changes_of_earlier_attempts_hold_at_their_steps_and_not_before(attempt):
    changes = [
        {"step": 3, "values": {"tuning_parameters.learning_rate": 0.5}},
        {"step": 6, "values": {"tuning_parameters.learning_rate": 0.25}},
    ]
    made = pace(learning_rate=1.0, lr_scheduler="constant")
    made.catch_up(changes, 4)
    rates = [made.rate(4)]
    for step in (5, 6, 7):
        made.keep_up(attempt.control, ALONE, Position(step=step, changes=changes))
        rates.append(made.rate(step))
    assert rates == [0.5, 0.5, 0.25, 0.25]


def test_the_deadline_is_the_guards_and_anything_else_is_refused():
    made = pace()
    made.change({"deadline_minutes": 3})
    with pytest.raises(ConfigError, match="batch_size can't be changed"):
        made.change({"tuning_parameters.batch_size": 3})


def test_what_is_asked_for_anew_is_not_undone_by_an_older_change_at_a_later_step(attempt):
    older = {"step": 6, "values": {"tuning_parameters.learning_rate": 0.5, "tuning_parameters.save_steps": 2}}
    made, position = pace(learning_rate=1.0, lr_scheduler="constant"), Position(step=5, changes=[older])
    attempt.command({"id": "c", "command": "change", "values": {"tuning_parameters.learning_rate": 2.0}})
    attempt.control.agree(ALONE)
    made.keep_up(attempt.control, ALONE, position)
    position.step = 6
    made.keep_up(attempt.control, ALONE, position)
    assert (made.rate(6), made.save_steps) == (2.0, 2)
