"""How often an epoch takes a row of a dataset with a weight."""

import random
from collections.abc import Iterator


def times(rows: int, weight: float, seed: str) -> Iterator[int]:
    """For each of so many rows how often it is taken: the whole part of `weight`, and once more for a seeded share.

    The share is exact (0.5 of 101 rows is 50 or 51, the same 50 for the same seed), and never nothing of a dataset.
    """
    whole = int(weight)
    chosen = round(rows * (weight - whole))
    if rows and not whole:
        chosen = max(1, chosen)
    chance = random.Random(seed)
    for left in range(rows, 0, -1):
        once_more = chance.random() * left < chosen
        chosen -= once_more
        yield whole + once_more


def taken(rows: int, weight: float) -> int:
    """How many different rows of so many an epoch takes."""
    return rows if weight >= 1 else min(rows, max(1, round(rows * weight)))
