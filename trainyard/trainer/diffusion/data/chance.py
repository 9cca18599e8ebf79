"""Chance that depends on words alone: the same in every process, on every machine, with every version of a library."""

import hashlib


def chance(seed: str) -> float:
    """A number from 0 up to 1, evenly spread over the seeds."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:6], "big") / (1 << 48)


def whole(seed: str) -> int:
    """A number of 128 bits."""
    return int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], "big")
