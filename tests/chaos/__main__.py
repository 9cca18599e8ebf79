"""Kills at random, drawn from a seed, and a look at what is left: `python -m tests.chaos [--rounds N] [--seed S]`."""

import argparse
import random
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tests.chaos.acts import Patient, drawn
from tests.chaos.check import problems_of, problems_of_store
from tests.chaos.drive import disturb
from tests.chaos.scene import Scene, Subject, guards_left
from trainyard import guard


def main(rounds: int, seed: int, acts: int, folder: Path) -> int:
    """Play `rounds` rounds; their number of the first that fails is the exit status."""
    print(f"seed {seed}, {rounds} round{'s' * (rounds > 1)} of {acts} acts for each of two jobs", flush=True)
    for number in range(rounds):
        began, own = time.monotonic(), folder / f"round-{seed + number}"
        own.mkdir()
        if problems := play(seed + number, acts, own):
            print(*problems, sep="\n")
            print(f"seed {seed + number} failed; again: make chaos ROUNDS=1 SEED={seed + number} ACTS={acts}")
            print(f"what is left lies in {own}")
            return 1
        print(
            f"round {number + 1} of {rounds}, seed {seed + number}: {time.monotonic() - began:.0f} s, all is as it was"
        )
    return 0


def play(seed: int, acts: int, folder: Path) -> list[str]:
    """One round over a service of its own: two jobs that nobody disturbs, the same two disturbed; what is wrong."""
    began, lock = time.monotonic(), threading.Lock()

    def say(text: str) -> None:
        with lock:
            print(f"  {time.monotonic() - began:6.2f} s  {text}", flush=True)

    patients = drawn(seed, acts)
    for patient in patients:
        say(f"{patient.name}: " + "; ".join(map(str, patient.acts)))
    scene = Scene(folder, say)
    scene.server.start()
    try:
        found = _played(scene, patients)
        if (code := scene.server.stop()) != 0:
            found.append(f"the service left with {code}")
        return found + problems_of_store(scene.server.data_dir / "trainyard.db")
    finally:
        _leave_nothing(scene, patients)


def _played(scene: Scene, patients: tuple[Patient, ...]) -> list[str]:
    with ThreadPoolExecutor(len(patients)) as pool:
        whole = {patient.name: pool.submit(_undisturbed, scene, patient) for patient in patients}
        others = {name: future.result() for name, future in whole.items()}
        ways = {patient.name: pool.submit(disturb, scene, patient, patient.name) for patient in patients}
        found: list[str] = []
        for way in ways.values():
            try:
                found += way.result()
            except AssertionError as e:
                found.append(str(e))
    if not found:
        found = [p for name, other in others.items() for p in problems_of(Subject(scene, name), other)]
    return found + [f"guard {pid} is left" for pid in _guards_that_stay(scene.folder) if not found]


def _guards_that_stay(folder: Path) -> list[int]:
    """One that has told its end may take a moment to be gone."""
    until = time.monotonic() + 10
    while (left := guards_left(folder)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def _undisturbed(scene: Scene, patient: Patient) -> Subject:
    job_id = f"{patient.name}-whole"
    status, answer = scene.ask("POST", "/train", scene.document(job_id, patient.method, patient.processes))
    assert status in (200, 201), answer
    scene.server.wait_end(job_id, 600)
    return Subject(scene, job_id)


def _leave_nothing(scene: Scene, patients: tuple[Patient, ...]) -> None:
    """After a round that failed, too: no service, no guard, no run."""
    with suppress(OSError):
        scene.server.kill()
    for pid in guards_left(scene.folder):
        guard.send(pid, 9)
    for owned in scene.server.data_dir.glob("jobs/*/spec.json"):
        uid = owned.read_text().partition('"uid": "')[2].partition('"')[0]
        for attempt in owned.parent.glob("attempts/*"):
            guard.end_run(f"{uid}.{attempt.name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, help="of the first round; each further round has the next number")
    parser.add_argument("--acts", type=int, default=4, help="for each job of a round")
    asked = parser.parse_args()
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    sys.exit(main(asked.rounds, seed, asked.acts, Path(tempfile.mkdtemp(prefix="chaos-"))))
