"""The benchmarks of image training can be run: tiny models, two steps, one round; whatever the numbers are."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TINY = ("--rounds", "1", "--steps", "2", "--width", "64", "--layers", "1", "--edge", "64", "--pictures", "8")


@pytest.mark.slow
@pytest.mark.bench
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("module", "arguments", "rows"),
    [
        (
            "diffusion",
            (*TINY, "--family", "pixart_sigma"),
            ("ours, caches warm", "encodes in it", "goal ≥ 1.15", "waited for the loader", "ours / the bare VAE"),
        ),
        (
            "gpu_diffusion",
            ("--tiny", "--rounds", "1"),
            ("bf16, batch 1", "int8, batch 2", "outside of the transformer (goal < 5%"),
        ),
    ],
)
def test_a_tiny_round_prints_its_table(module: str, arguments: tuple[str, ...], rows: tuple[str, ...]) -> None:
    argv = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [row for row in rows if row not in done.stdout] == []
