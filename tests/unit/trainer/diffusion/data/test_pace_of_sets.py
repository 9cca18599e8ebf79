"""Changes of a run whose sets come to an end, and processes that found other data."""

import attrs
import pytest
import torch

from trainyard.trainer.diffusion.pace import Pace
from trainyard.trainer.diffusion.state import Position
from trainyard.trainer.failures import DataError
from trainyard.trainer.processes import World

ALONE = World.alone(torch.device("cpu"))
PART = "tuning_parameters."


def asked(attempt, made, position, number, **values):
    """How a change was answered."""
    named = {PART + name: value for name, value in values.items()}
    attempt.command({"id": f"c{number}", "command": "change", "values": named})
    attempt.control.agree(ALONE)
    made.keep_up(attempt.control, ALONE, position)
    return attempt.data("ack")[-1]


def test_a_change_that_the_sets_do_not_last_for_is_refused_and_changes_nothing(epochs, attempt):
    found = epochs({"a": {"square": 4, "end_epoch": 3}})
    made, position = (
        Pace.of(attrs.evolve(found.options, num_train_epochs=2, max_train_steps=0), found),
        Position(step=1),
    )
    assert made.total == 8
    for number, values in enumerate(({"num_epochs": 5, "learning_rate": 0.5}, {"max_steps": 13})):
        ack = asked(attempt, made, position, number, **values)
        assert ack["ok"] is False and "end_epoch" in ack["message"]
    assert made.total == 8 and made.learning_rate != 0.5 and position.changes == []
    assert asked(attempt, made, position, 7, max_steps=12)["ok"] and made.total == 12


class Others:
    """The first process found something else."""

    def share(self, thing):
        return "another digest"

    def any(self, *flags):
        return flags


def test_processes_that_found_other_pictures_all_end(paint, look):
    one = look(paint("a", x=(64, 64), y=(64, 48)))
    one.check_same(ALONE)
    with pytest.raises(DataError, match="found different pictures") as raised:
        one.check_same(Others())
    assert raised.value.together


def test_pictures_captions_and_frames_are_what_is_compared(paint, look, tmp_path):
    folder = paint("a", x=(64, 64), y=(64, 48))
    first = look(folder)

    class First:
        def share(self, thing):
            seen.append(thing)
            return thing

        def any(self, *flags):
            return flags

    seen: list[str] = []
    for gallery in (first, look(folder), look(folder, options={"resolution": 32})):
        gallery.check_same(First())
    (folder / "x.png").rename(folder / "z.png")
    look(folder).check_same(First())
    assert seen[0] == seen[1] and len(set(seen)) == 3
