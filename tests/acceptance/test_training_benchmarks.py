"""The benchmarks of training can be run: a tiny model, two steps, one round; whatever the numbers are."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LORA = ("--method", "lora")
TINY = ("--rounds", "1", "--steps", "2", "--hidden", "32", "--layers", "1")


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("module", "more", "rows"),
    [
        (
            "training",
            LORA,
            ("ours, lora, packing on", "TRL, wrapped; lora", "accelerate loop", "goal ≥ 0.97"),
        ),
        (
            "training_start",
            LORA,
            ("ours, lora", "ours, lora, from POST", "TRL, bfd, lora", "goal ≤ 0.9"),
        ),
        ("training_report", (), ("a report each step", "one report alone", "goal < 1%")),
        ("checkpoints", LORA, ("what the loop waits for", "SIGTERM to saved", "goal ≤ 1.15", "resumed / (1.2 × fresh")),
    ],
)
def test_a_tiny_round_prints_its_table(module, more, rows):
    argv = [sys.executable, "-m", f"benchmarks.{module}", *TINY, *more]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [row for row in rows if row not in done.stdout] == []
