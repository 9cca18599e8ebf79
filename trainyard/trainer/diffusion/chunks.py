"""Tensors taken in pieces: many small ones are one launch on a GPU, and what is computed beside a piece is small."""

from collections.abc import Iterable, Iterator, Sequence

import torch

#: About as much as one launch of torch's `_foreach_` functions takes; on a CPU what its nearest caches hold.
_MOST, _MOST_ON_CPU = 1 << 24, 1 << 17

Row = Sequence[torch.Tensor]


def chunks(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows of tensors in pieces; those of a piece are alike in device and type of their first tensors.

    The first tensors of a piece have 16 million numbers together (on a CPU 131,072), but that a larger one is alone.
    The same rows are always cut alike.
    """
    alike: dict[tuple[torch.device, torch.dtype], list[Row]] = {}
    for row in rows:
        alike.setdefault((row[0].device, row[0].dtype), []).append(row)
    for (device, _), some in alike.items():
        most = _MOST_ON_CPU if device.type == "cpu" else _MOST
        piece, held = list[Row](), 0
        for row in some:
            if piece and held + row[0].numel() > most:
                yield piece
                piece, held = [], 0
            piece.append(row)
            held += row[0].numel()
        yield piece
