"""Which rows meet in which step: seeded, the same again on resume, and of like lengths so that little is padded."""

import random
from collections.abc import Sequence

import torch
from attrs import frozen

from trainyard.trainer.text.tokens import Example

_BATCHES_SORTED_TOGETHER = 16
IGNORED = -100


def split(examples: Sequence[Example], ratio: float, seed: int) -> tuple[list[Example], list[Example]]:
    """What is trained on, and the held-out share (at least one row where a share is asked for and two rows exist)."""
    held = min(len(examples) - 1, max(1, round(len(examples) * ratio))) if ratio > 0 else 0
    chosen = set(random.Random(f"held-out {seed}").sample(range(len(examples)), held))
    training = [e for i, e in enumerate(examples) if i not in chosen]
    return training, [e for i, e in enumerate(examples) if i in chosen]


def epoch_batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch, as indices: shuffled, then sorted by length within a neighbourhood of batches."""
    chance = random.Random(f"{seed} {epoch}")
    order = list(range(len(lengths)))
    chance.shuffle(order)
    near = size * _BATCHES_SORTED_TOGETHER
    batches: list[list[int]] = []
    for at in range(0, len(order), near):
        alike = sorted(order[at : at + near], key=lambda i: -lengths[i])
        batches += [alike[i : i + size] for i in range(0, len(alike), size)]
    chance.shuffle(batches)
    return batches


@frozen(eq=False)
class Micro:
    """One micro batch on its device, padded to its longest row; labels are `IGNORED` where nothing is learned."""

    ids: torch.Tensor
    labels: torch.Tensor
    tokens: int


def collate(examples: Sequence[Example], pad: int, device: torch.device) -> Micro:
    """Right padding; a causal model never looks at it from a real token, so no mask is needed."""
    width = max(map(len, examples))
    ids = torch.full((len(examples), width), pad, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.long)
    for i, example in enumerate(examples):
        row = torch.from_numpy(example.ids).long()
        ids[i, : len(row)] = row
        labels[i, : len(row)] = row.masked_fill(~torch.from_numpy(example.learned), IGNORED)
    return Micro(ids.to(device), labels.to(device), sum(map(len, examples)))
