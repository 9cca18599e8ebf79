"""`killed_checkpoint.py FOLDER MODEL METHOD`: a real run that comes to its first checkpoint and saves on order.

It writes that one, then reads orders, a line each, and answers each with a line. `at N`: a copy of this process saves
step 4 and is killed with -9 before its N-th call of the file system; answered `killed` or `survived`. `after S`: a copy
saves one step after the other and is killed after S seconds; answered with the last step that was told.
"""

import itertools
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from attrs import evolve

from common.folder import Pair
from tests.here import Here
from trainyard.trainer.claim import Fence
from trainyard.trainer.reporting import Reporter
from trainyard.trainer.text.keep import Keeper
from trainyard.trainer.text.state import Position

_CALLS = frozenset({"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.scandir"})


def die_before(fatal: int) -> None:
    """Count the calls of the file system from here on; there is no event for `fsync` and `write`."""
    calls, fsync, write = itertools.count(1), os.fsync, os.write

    def called() -> None:
        if next(calls) == fatal:  # whichever thread it is
            os.kill(os.getpid(), signal.SIGKILL)

    def flush(descriptor: int) -> None:
        called()
        fsync(descriptor)

    def told(descriptor: int, data: bytes) -> int:
        called()
        return write(descriptor, data)

    os.fsync, os.write = flush, told  # type: ignore[assignment]
    sys.addaudithook(lambda event, _: called() if event in _CALLS else None)


def in_a_copy(work: Callable[[], None], seconds: float | None = None) -> bool:
    """Whether a fork of this process was killed in its work."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("the copy failed")
    return os.WIFSIGNALED(status)


def as_attempt_two(keeper: Keeper) -> Keeper:
    """A run of its own, with its own folder, fence and events."""
    run, pair = keeper.run, Pair(2)
    own = run.claim.folder.attempt(pair)
    own.mkdir(exist_ok=True)
    fence = Fence(run.claim.folder, pair)
    told = evolve(run, claim=evolve(run.claim, pair=pair, own=own), fence=fence, report=Reporter(own, fence.check))
    kept = evolve(keeper.checkpoints, pair=pair, check_fence=fence.check)
    return evolve(keeper, run=told, checkpoints=kept)


def obey(keeper: Keeper, position: Position, write: Callable[[Keeper, Position, str], None]) -> None:
    folder = keeper.run.claim.folder
    folder.raise_fence(Pair(2))

    def save(step: int) -> None:
        position.step = step
        again = as_attempt_two(keeper)
        write(again, position, "step")
        again.finish()

    def save_once(fatal: int) -> None:
        die_before(fatal)
        save(4)

    def save_on() -> None:
        told = os.open(folder.path / "told", os.O_WRONLY | os.O_APPEND)
        for step in range(4, 10**6, 2):
            save(step)
            os.write(told, b"%d\n" % step)  # one write at the end: a kill can't leave it empty

    for line in sys.stdin:
        order, _, value = line.partition(" ")
        if order == "at":
            answer: Any = "killed" if in_a_copy(lambda: save_once(int(value))) else "survived"  # noqa: B023
        else:
            (folder.path / "told").write_text("2\n")
            in_a_copy(save_on, float(value))
            answer = (folder.path / "told").read_text().split()[-1]
        print(answer, flush=True)


def main(folder: Path, model: Path, method: str) -> None:
    here = Here(folder, model)
    here.custom = {"method": method, "precision": "fp32"} | ({"rank": 4} if method == "lora" else {})
    here.tuning |= {"max_steps": 2, "save_steps": 2, "save_total_limit": 1, "micro_batch_size": 8}
    save = Keeper.save

    def saved(keeper: Keeper, position: Position, kind: str) -> None:
        save(keeper, position, kind)
        keeper.finish()
        print("ready", flush=True)
        obey(keeper, position, save)
        os._exit(0)

    Keeper.save = saved  # type: ignore[method-assign]
    here.train()


main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
