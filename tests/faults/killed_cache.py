"""`killed_cache.py FOLDER`: reads orders, a line each, and lets copies of itself fill the cache in FOLDER.

`fill N`: a copy makes N things; answered with those it made. `at C N`: it is killed with -9 before its C-th call of the
file system; answered `killed` or `survived`. `after S N`: it is killed S seconds after one is there. `two N`: two
copies at once; answered with what each made. `orphan N`: a copy is killed while a second waits for what it had in the
making; answered with what the second made. `full N`: this process fills a small disk; answered with its words.
"""

import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch

from trainyard.trainer.diffusion.cache.fill import Made, Wanted, Work, fill
from trainyard.trainer.diffusion.cache.shelf import Shelf, digest
from trainyard.trainer.failures import DiskFull

_CALLS = frozenset(
    {"open", "os.mkdir", "os.rename", "os.remove", "os.listdir", "os.scandir", "fcntl.lockf", "os.utime"}
)
LARGE = 4_000


def die_before(fatal: int) -> None:
    calls = itertools.count(1)

    def called(event: str, _: object) -> None:
        if event in _CALLS and next(calls) == fatal:  # whichever thread it is
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(called)


class Filler:
    """Makes numbers' tensors and writes down which."""

    def __init__(self, folder: Path, told: Path, seconds: float = 0.0) -> None:
        self.shelf, self.told, self.seconds = Shelf(folder, "numbers", "one"), told, seconds
        self.said: list[str] = []

    def fill(self, count: int, first: int = 0) -> None:
        wanted = [Wanted(self.shelf, digest(str(n)), n) for n in range(count)]
        wanted = wanted[first:] + wanted[:first]
        batches = [wanted[start : start + 2] for start in range(0, count, 2)]
        nothing = {"check": lambda: None, "say": lambda said, **_: self.said.append(said)}
        fill(batches, Work(what="numbers", load=int, encode=self.encode, threads=2, **nothing))

    def encode(self, numbers: Sequence[int]) -> list[Made]:
        with self.told.open("a") as file:
            file.write("".join(f"{n}\n" for n in numbers))
        time.sleep(self.seconds)
        return [Made({"value": torch.full((LARGE,), float(n))}) for n in numbers]


def copy(work: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def ended(child: int) -> str:
    status = os.waitpid(child, 0)[1]
    return "killed" if os.WIFSIGNALED(status) else "survived" if os.WEXITSTATUS(status) == 0 else "failed"


def numbers(path: Path) -> list[int]:
    found = [int(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def obey(folder: Path, order: str, *values: float) -> object:
    one, two = folder / "told.1", folder / "told.2"
    count = int(values[-1])
    if order == "fill":
        assert ended(copy(lambda: Filler(folder, one).fill(count))) == "survived"
        return numbers(one)
    if order == "at":
        return ended(copy(lambda: (die_before(int(values[0])), Filler(folder, one).fill(count))[0]))
    if order == "after":
        child = copy(lambda: Filler(folder, one).fill(count))
        while not any(folder.rglob("*.safetensors")):
            time.sleep(0.01)
        time.sleep(values[0])
        os.kill(child, signal.SIGKILL)
        return ended(child)
    if order == "two":
        children = [copy(lambda: Filler(folder, one, 0.1).fill(count))]
        children.append(copy(lambda: Filler(folder, two, 0.1).fill(count, count // 2)))
        assert [ended(child) for child in children] == ["survived"] * 2
        return [numbers(one), numbers(two)]
    if order == "orphan":
        first = copy(lambda: Filler(folder, one, 60.0).fill(count))
        while not one.exists():
            time.sleep(0.01)
        second = copy(lambda: Filler(folder, two).fill(count))
        time.sleep(0.3)
        os.kill(first, signal.SIGKILL)
        assert (ended(first), ended(second)) == ("killed", "survived")
        return numbers(two)
    filler = Filler(folder, Path("/dev/null"))
    try:
        filler.fill(count)
    except DiskFull as e:
        return [*filler.said, str(e)]
    return filler.said


def main(folder: Path) -> None:
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        order, *values = line.split()
        print(json.dumps(obey(folder, order, *map(float, values))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
