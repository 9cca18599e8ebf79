"""Flux's sequence: two by two places of the latents are one token, and every token is told where it lies."""

from collections.abc import Sequence

import torch


def packed(latents: torch.Tensor) -> torch.Tensor:
    """(b, c, h, w) as (b, h / 2 · w / 2, 4 c)."""
    b, c, h, w = latents.shape
    cut = latents.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(b, (h // 2) * (w // 2), 4 * c)


def unpacked(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """(b, h / 2 · w / 2, 4 c) as (b, c, h, w)."""
    b, _, c = tokens.shape
    grid = tokens.reshape(b, height // 2, width // 2, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(b, c // 4, height, width)


def places(size: Sequence[int], references: Sequence[Sequence[int]] = ()) -> torch.Tensor:
    """(tokens, 3): 0, row and column of each token of latents (h, w); behind them those of `places_of`."""
    return torch.cat([_grid(size, 0, 0, 0), places_of(references)])


def places_of(references: Sequence[Sequence[int]]) -> torch.Tensor:
    """(tokens, 3) of pictures to edit, whose latents are (h, w): 1, row and column.

    The first lies where the latents do, as in the stock pipeline; each further one below or beside those before it,
    whichever keeps the whole nearer to a square, so that no two tokens are told the same place.
    """
    found = [torch.zeros(0, 3)]
    below = beside = 0
    for height, width in references:
        top, left = (below, 0) if below + height <= beside + width else (0, beside)
        found.append(_grid((height, width), 1, top // 2, left // 2))
        below, beside = max(below, top + height), max(beside, left + width)
    return torch.cat(found)


def _grid(size: Sequence[int], first: int, top: int, left: int) -> torch.Tensor:
    rows, columns = size[0] // 2, size[1] // 2
    grid = torch.zeros(rows, columns, 3)
    grid[..., 0] = first
    grid[..., 1] = top + torch.arange(rows)[:, None]
    grid[..., 2] = left + torch.arange(columns)[None, :]
    return grid.reshape(rows * columns, 3)
