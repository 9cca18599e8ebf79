"""What the headers of .safetensors files say, without reading their tensors."""

import json
from pathlib import Path

from attrs import frozen

_POINTER = b"version https://git-lfs"


@frozen
class Tensor:
    """A tensor as its file's header tells it."""

    shape: tuple[int, ...]
    #: In the words of the format: `F32`, `BF16`, …
    kind: str


def tensors_of(path: Path) -> dict[str, Tensor]:
    """The tensors of a whole .safetensors file, by name."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    found = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
    return {name: Tensor(tuple(tensor["shape"]), tensor["dtype"]) for name, tensor in found.items()}


def damage(path: Path) -> str | None:
    """What is wrong with a .safetensors file, as its header and its size tell; None when they agree."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start + file.read(len(_POINTER) - 8) == _POINTER:
            return "is a pointer of Git LFS, not the weights themselves; `git lfs pull` fetches them"
        length = int.from_bytes(start, "little")
        file.seek(8)
        if len(start) < 8 or 8 + length > size:
            return f"is no whole .safetensors file: its header does not fit into its {size:,} bytes"
        try:
            header = json.loads(file.read(length))
            end = max((part["data_offsets"][1] for n, part in header.items() if n != "__metadata__"), default=0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return "is no .safetensors file: its header can't be read"
    if 8 + length + end > size:
        return f"is cut short: it has {size:,} of {8 + length + end:,} bytes; fetch it again"
    return None
