"""Where the parts of an image model lie on this machine, and what is in their files; without torch."""

import json
from collections import Counter
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from attrs import field, frozen

from trainyard.trainer.diffusion.sums import Sums
from trainyard.trainer.failures import ModelError
from trainyard.trainer.sources.hub import of_variant
from trainyard.trainer.tensors import Tensor, damage, tensors_of

#: Files of tensors; the first kind that a folder has is read.
_TENSORS = (".safetensors", ".sft", ".bin")
#: How the names of a part's tensors begin in a single file.
_HELD = (
    ("transformer", "double_blocks."),
    ("transformer", "model.diffusion_model.double_blocks."),
    ("transformer", "t_block."),
    ("transformer", "adaln_single."),
    ("unet", "model.diffusion_model.input_blocks."),
    ("vae", "first_stage_model."),
    ("text_encoder", "conditioner.embedders.0.transformer."),
    ("text_encoder_2", "conditioner.embedders.1.model."),
)
_PRECISIONS = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}


@frozen(kw_only=True)
class Weights:
    """An image model: a folder as diffusers writes it, or one file; single parts may come from elsewhere."""

    #: A hub's id or a path: what loads it again.
    name: str
    #: A folder with a folder for each part, or one file with some of them.
    root: Path
    #: With one file: a folder as diffusers writes it, of which is taken what the folder that the file lies in lacks.
    beside: Path | None = None
    #: Parts that lie elsewhere, by the folder names of diffusers (`vae`, `text_encoder_2`, …): folders or files.
    parts: Mapping[str, Path] = field(factory=dict)
    revision: str | None = None
    #: Of the files: `fp16` reads `diffusion_pytorch_model.fp16.safetensors`; where there is none, the plain file.
    variant: str | None = None
    #: Whether files of tensors were fetched too; else what they hold is not known, nor that they are there.
    whole: bool = True
    sums: Sums = field(factory=Sums, eq=False)

    def at(self, part: str) -> Path | None:
        """The folder or the file of a part; None where it is missing."""
        if part in self.parts:
            return self.parts[part]
        if self.root.is_file() and part in held(self.root):
            return self.root
        folders = (self.root,) if self.root.is_dir() else (self.root.parent, self.beside)
        return next((folder / part for folder in folders if folder is not None and (folder / part).is_dir()), None)

    def need(self, part: str) -> Path:
        """As `at`; raises `ModelError` where it is missing."""
        found = self.at(part)
        if found is None:
            raise ModelError(f"pretrained_model_name_or_path: {self.name}: it has no {part} ({self.root})")
        return found

    def config(self, part: str) -> dict[str, Any]:
        """What the part's own configuration says; empty where it has none, as a single file."""
        found = self.at(part)
        if found is None or not found.is_dir():
            return {}
        names = ("config.json", "scheduler_config.json", "tokenizer_config.json")
        path = next((found / name for name in names if (found / name).is_file()), None)
        return _json(path) if path is not None else {}

    def index(self) -> dict[str, Any]:
        """`model_index.json`; empty for a single file."""
        path = self.root / "model_index.json"
        return _json(path) if path.is_file() else {}

    def files(self, part: str) -> list[Path]:
        """The files that a part is read from, sorted; of tensors those of the variant, where it has them."""
        found = self.at(part)
        if found is None:
            return []
        if found.is_file():
            return [found]
        there = sorted(path for path in found.iterdir() if path.is_file())
        tensors = [path for path in there if path.suffix in _TENSORS]
        kind = next((suffix for suffix in _TENSORS if any(p.suffix == suffix for p in tensors)), None)
        tensors = [path for path in tensors if path.suffix == kind]
        ours = [path for path in tensors if _is_variant(path, self.variant)]
        plain = [path for path in tensors if path.name.count(".") == 1] or tensors
        return [path for path in there if path.suffix not in _TENSORS] + (ours or plain)

    def has_tensors(self, part: str) -> bool:
        """Whether a part comes with its weights, not with its configuration alone."""
        return not self.whole or any(path.suffix in _TENSORS for path in self.files(part))

    def variant_of(self, part: str) -> str | None:
        """The variant, where this part has it."""
        return self.variant if any(_is_variant(path, self.variant) for path in self.files(part)) else None

    def tensors(self, part: str) -> dict[str, Tensor]:
        """The tensors of a part by name, by the headers of its .safetensors files alone.

        Raises `ModelError` naming a file that is not whole.
        """
        found: dict[str, Tensor] = {}
        for path in self.files(part):
            if path.suffix in (".safetensors", ".sft"):
                problem = damage(path)
                if problem is not None:
                    raise ModelError(f"{self.name}: {path} {problem}")
                found |= tensors_of(path)
        return found

    def precision(self, part: str) -> str:
        """`fp32`, `fp16` or `bf16`: what most tensors of a part are stored in; `fp32` where it can't be told."""
        kinds = Counter(tensor.kind for tensor in self.tensors(part).values())
        return _PRECISIONS.get(max(kinds, key=kinds.__getitem__, default=""), "fp32")

    def digest(self, part: str) -> str:
        """A hash of everything in the files of a part: hexadecimal, the same wherever they lie."""
        whole = sha256()
        for path in self.files(part):
            name = "" if self.parts.get(part) == path else path.name
            whole.update(f"{name}\0{self.sums.of(path)}\n".encode())
        return whole.hexdigest()


@cache
def held(path: Path) -> frozenset[str]:
    """The parts that a single file has, by the names of its tensors."""
    if path.suffix not in (".safetensors", ".sft") or damage(path) is not None:
        return frozenset()
    names = tensors_of(path)
    return frozenset(part for part, start in _HELD for name in names if name.startswith(start))


def holds_tensors(path: Path) -> bool:
    """Whether a file is one of weights, by its name."""
    return path.suffix in _TENSORS


def _is_variant(path: Path, variant: str | None) -> bool:
    return variant is not None and path.suffix in _TENSORS and of_variant(path.name, variant)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as e:
        raise ModelError(f"{path}: is not JSON: {e}") from e
    if not isinstance(found, dict):
        raise ModelError(f"{path}: a JSON object would be right")
    return found
