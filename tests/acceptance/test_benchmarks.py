"""`make bench` can be run: a short round of each part prints its table, whatever the numbers are."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("arguments", "rows"),
    [
        (
            ["benchmarks.post", "--rounds", "1", "--seconds", "0.3"],
            ("bare aiohttp", "FastAPI", "the service", "goal ≥ 0.3"),
        ),
        (["benchmarks.sse", "--rounds", "1"], ("200 SSE readers", "the service", "goal ≥ 0.7")),
        (
            ["benchmarks.slurm", "--count=10", "--live=10", "--rounds=1", "--seconds=2", "--jobs=1", "--far=5"],
            ("10 submissions", "goal ≤ 0.7", "the controller 5 ms away", "10 live jobs", "interval 1 s"),
        ),
    ],
)
def test_a_short_round_prints_its_table(arguments, rows):
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=880, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [row for row in rows if row not in done.stdout] == []
