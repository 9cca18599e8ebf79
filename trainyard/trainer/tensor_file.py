"""Tensors written as a safetensors file, one after the other (https://huggingface.co/docs/safetensors, "Format")."""

import json
from collections.abc import Mapping
from typing import Any

import torch

#: Names of the format's types; a file begins with those of the widest numbers, so that every tensor is aligned.
_TYPES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_ALIGNED = 8


def write_tensors(tensors: Mapping[str, torch.Tensor], file: Any, metadata: Mapping[str, str] | None = None) -> None:
    """Write them into an open file; only one at a time is copied. Raises `KeyError` for a type the format lacks."""
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNED)
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for name in names:
        if tensors[name].numel():
            file.write(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
