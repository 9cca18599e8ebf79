"""Which rows meet in which step: seeded, the same again on resume, and with little or no padding."""

import random
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from attrs import field, frozen

from trainyard.trainer.text.tokens.examples import Example, Examples, rows_of
from trainyard.trainer.text.tokens.packing import pack

_BATCHES_SORTED_TOGETHER = 16
IGNORED = -100
Rows = TypeVar("Rows", bound=Sequence[Any])
#: The rows of one sequence, by their numbers: one, or as many as were packed into it.
Packed = tuple[int, ...]
Row = TypeVar("Row")


def split(examples: Rows, ratio: float, seed: int) -> tuple[Rows, Rows]:
    """What is trained on, and the held-out share (at least one row where a share is asked for and two rows exist).

    A row that an epoch takes several times is held out whole, or not at all.
    """
    of, rows = rows_of(examples), sorted(set(rows_of(examples)))
    held = min(len(rows) - 1, max(1, round(len(rows) * ratio))) if ratio > 0 else 0
    chosen = set(random.Random(f"held-out {seed}").sample(rows, held))
    training = _some(examples, [i for i, row in enumerate(of) if row not in chosen])
    return training, _some(examples, [i for i, row in enumerate(of) if row in chosen])


def _some(examples: Any, indices: list[int]) -> Any:
    return (
        examples.take(np.array(indices, np.int64)) if isinstance(examples, Examples) else [examples[i] for i in indices]
    )


@frozen
class Epochs:
    """The steps of each epoch; a step takes `size` sequences, each of one row or, with packing, of several."""

    examples: Examples
    size: int
    seed: int
    #: Tokens of a sequence where rows are packed into it.
    longest: int | None = None
    _lengths: list[int] = field(init=False)

    @_lengths.default
    def _measured(self) -> list[int]:
        return self.examples.lengths.tolist()

    def epoch(self, number: int) -> list[list[Packed]]:
        """Its batches; with equal rows every epoch has as many."""
        if self.longest is not None:
            return packed_batches(self._lengths, self.longest, self.size, self.seed, number)
        return [[(i,) for i in batch] for batch in epoch_batches(self._lengths, self.size, self.seed, number)]

    def rows(self, batch: Sequence[Packed]) -> list[list[Example]]:
        """The rows of a batch's sequences."""
        return [[self.examples[i] for i in packed] for packed in batch]


def epoch_batches(lengths: Sequence[int], size: int, seed: int, epoch: int) -> list[list[int]]:
    """The batches of one epoch, as indices: shuffled, then sorted by length within a neighbourhood of batches."""
    chance, order = _shuffled(len(lengths), seed, epoch)
    near = size * _BATCHES_SORTED_TOGETHER
    batches: list[list[int]] = []
    for at in range(0, len(order), near):
        alike = sorted(order[at : at + near], key=lambda i: -lengths[i])
        batches += [alike[i : i + size] for i in range(0, len(alike), size)]
    chance.shuffle(batches)
    return batches


def packed_batches(lengths: Sequence[int], longest: int, size: int, seed: int, epoch: int) -> list[list[Packed]]:
    """As `epoch_batches`, of sequences that are packed anew in each epoch and hold at most `longest` tokens."""
    chance, order = _shuffled(len(lengths), seed, epoch)
    sequences = [tuple(order[i] for i in found) for found in pack([lengths[i] for i in order], longest)]
    chance.shuffle(sequences)
    return [sequences[at : at + size] for at in range(0, len(sequences), size)]


def dealt(batch: Sequence[Row], rank: int, size: int, share: int) -> list[list[Row]]:
    """What one of `size` processes takes of a batch, in micro batches of `share`: as many in each process.

    Rows of like length meet in the same micro batch of all processes; one that gets none of the last rows gets an empty
    micro batch.
    """
    mine = batch[rank::size]
    return [list(mine[at : at + share]) for at in range(0, -(-len(batch) // size), share)]


def _shuffled(rows: int, seed: int, epoch: int) -> tuple[random.Random, list[int]]:
    chance = random.Random(f"{seed} {epoch}")
    order = list(range(rows))
    chance.shuffle(order)
    return chance, order


@frozen(eq=False)
class Micro:
    """One micro batch on its device.

    `inputs` are the model's; `columns` those at which some row has a token to predict, `targets` [rows, columns] what
    it is, `learned` which of them count (None: all).
    """

    inputs: dict[str, Any]
    columns: torch.Tensor
    targets: torch.Tensor
    learned: torch.Tensor | None
    tokens: int


def blank(example: Example) -> Example:
    """The beginning of a row with nothing to learn in it: for a process that has no row where the others have one."""
    return Example(example.ids[:2], np.zeros(len(example.ids[:2]), np.bool_))


def collate(sequences: Sequence[Sequence[Example]], pad: int, device: torch.device, packed: bool = False) -> Micro:
    """One row a sequence, padded on the right; with `packed` all of them in one row, one after the other.

    A causal model never looks at padding from a real token, so that needs no mask. Packed rows are told by positions
    that start again, and by where each ends (transformers' names for flash attention).
    """
    examples = [e for sequence in sequences for e in sequence]
    ids, labels = _flat(examples) if packed else _padded(examples, pad)
    inputs: dict[str, Any] = {"input_ids": ids.to(device)}
    if packed:
        lengths = [len(e) for e in examples]
        positions = torch.cat([torch.arange(n) for n in lengths])[None]
        ends = torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32).to(device)
        inputs |= {"position_ids": positions.to(device), "cu_seq_lens_q": ends, "cu_seq_lens_k": ends}
        inputs |= {"max_length_q": max(lengths), "max_length_k": max(lengths)}
    columns = (labels[:, 1:] != IGNORED).any(0).nonzero().squeeze(1)
    targets = labels[:, 1:][:, columns]
    learned = targets != IGNORED
    some = None if learned.all() else learned.to(device)
    return Micro(inputs, columns.to(device), targets.to(device), some, sum(map(len, examples)))


def _padded(examples: Sequence[Example], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, examples))
    ids = torch.full((len(examples), width), pad, dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.long)
    for i, example in enumerate(examples):
        ids[i, : len(example)] = torch.from_numpy(example.ids)
        labels[i, : len(example)] = _labels(example)
    return ids, labels


def _flat(examples: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.cat([torch.from_numpy(e.ids) for e in examples]).long()
    labels = torch.cat([_labels(e) for e in examples])
    return ids[None], labels[None]


def _labels(example: Example) -> torch.Tensor:
    """The first token of a row is never predicted: before it stands nothing, or another row's last."""
    labels = torch.from_numpy(example.ids).long().masked_fill(~torch.from_numpy(example.learned), IGNORED)
    labels[0] = IGNORED
    return labels
