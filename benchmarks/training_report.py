"""What telling every step costs: `python -m benchmarks.training_report`.

Twice: whole runs that report each step, beside runs that report twice in all; and one report alone, on the same disk,
as a share of a step, because the machine's own noise is larger than what is looked for.
"""

import argparse
import statistics
import time
from pathlib import Path

from benchmarks.table import interleaved, met, ratio, show
from benchmarks.training import asked
from benchmarks.training_work import Size, Work, by_us, working
from common.folder import JobFolder, Pair
from trainyard.trainer.claim import Fence
from trainyard.trainer.control import Control
from trainyard.trainer.reporting import Reporter

_GOAL = 0.01
_REPORTS = 1_000


def one_report(folder: Path) -> float:
    """Seconds for what a step does when it is told: look for wishes, look at the fence, write the event."""
    job = JobFolder(folder / "job")
    own = job.path / "attempts" / "1.0"
    own.mkdir(parents=True)
    (job.path / "attempt").write_text("1.0\n")
    fence = Fence(job, Pair.parse("1.0"))
    report = Reporter(own, fence.check)
    control = Control(job.control, fence.own, report)
    data = {"step": 1, "total_steps": _REPORTS, "epoch": 0.5, "loss": 1.2345, "learning_rate": 1e-3} | {
        "tokens_per_second": 2000.1,
        "eta_seconds": 12.3,
    }
    began = time.perf_counter()
    for step in range(_REPORTS):
        control.poll()
        report.event("progress", data | {"step": step})
    return (time.perf_counter() - began) / _REPORTS


def step_seconds(work: Work, logging_steps: int) -> float:
    """The mean step of a run, by the tokens that it took."""
    seen = by_us(work, "lora", packing=True, logging_steps=logging_steps)
    return work.size.length * work.size.batch / seen.tokens_per_second


def main(rounds: int = 5, size: Size = Size()) -> None:
    """Measure and print."""
    with working(size) as work:
        half = size.steps // 2
        each, rarely = f"a report each step, {size.steps} steps", "a report each half"
        found = interleaved(rounds, {each: lambda: step_seconds(work, 1), rarely: lambda: step_seconds(work, half)})
        alone = one_report(work.folder)
    rows = [(name, f"{statistics.median(seen) * 1000:.1f}") for name, seen in found.items()]
    share = alone / statistics.median(found[rarely])
    notes = [
        f"whole runs: {ratio(found[each], found[rarely]) - 1:+.1%} of a step (includes the machine's noise)",
        f"one report alone: {alone * 1e6:,.0f} µs, {share:.3%} of a step "
        f"(goal < {_GOAL:.0%}: {met(share, _GOAL, least=False)})",
    ]
    show(f"{rounds} rounds, medians", ("ours, lora, packing on", "ms a step"), rows, notes)


if __name__ == "__main__":
    rounds, wanted, _ = asked(argparse.ArgumentParser(description=__doc__))
    main(rounds, wanted)
