"""What is done to a job: moments and victims, drawn from a seed."""

import random

from attrs import frozen

STEPS = 120
SAVE_STEPS = 5
#: When something is done, each with the longest wait between that moment and the deed, in seconds.
MOMENTS = {
    "starting": 8.0,  # since the present attempt was claimed: imports, tokenising, loading, first steps
    "training": 0.05,  # since a step was told
    "saving": 0.03,  # since a checkpoint's own folder was seen half-written
    "asked": 0.1,  # since somebody asked for a checkpoint
    "pausing": 0.3,  # since a pause was wished
    "resuming": 8.0,  # since a paused job was set going again
    "ending": 0.6,  # since the last checkpoint but one
}
_NOBODY = "nobody"
_VICTIMS = ("service", "guard", "trainer", "rank 0", "rank 1")


@frozen
class Act:
    """One deed: at a moment (of a step, where it waits for one), after a delay, somebody is killed with -9."""

    moment: str
    step: int
    delay: float
    victim: str
    #: Of a killed service: for how long it stays away, and whom it is killed together with.
    away: float
    beside: str

    def __str__(self) -> str:
        beside = f" and {self.beside}, away for {self.away:.2f} s" if self.victim == "service" else ""
        return f"{self.moment} at step {self.step} + {self.delay:.3f} s: {self.victim}{beside}"


@frozen
class Patient:
    """A job and what is done to it, in order."""

    method: str
    processes: int
    acts: tuple[Act, ...]

    @property
    def name(self) -> str:
        return f"{self.method}-{self.processes}"


def drawn(seed: int, acts: int) -> tuple[Patient, ...]:
    """The two jobs of a round: the same ones for the same seed, on whatever machine."""
    chance = random.Random(seed)
    methods = ["lora", "full"]
    chance.shuffle(methods)
    return tuple(
        Patient(method, processes, tuple(_act(chance, number, acts, processes) for number in range(acts)))
        for processes, method in enumerate(methods, start=1)
    )


def _act(chance: random.Random, number: int, acts: int, processes: int) -> Act:
    """The acts of a job share its steps among them, so that each has its turn."""
    victims = _VICTIMS if processes > 1 else _VICTIMS[:3]
    names = [name for name in MOMENTS if name != "ending" or number == acts - 1]
    moment = chance.choice(names)
    share = (STEPS - 15) // acts
    step = STEPS - SAVE_STEPS if moment == "ending" else 1 + number * share + chance.randrange(share)
    harmless = moment in ("asked", "pausing", "resuming") and chance.random() < 0.2
    return Act(
        moment,
        step,
        chance.uniform(0, MOMENTS[moment]),
        _NOBODY if harmless else chance.choice(victims),
        chance.uniform(0, 1.5),
        chance.choice([_NOBODY, _NOBODY, *victims[1:]]),
    )
