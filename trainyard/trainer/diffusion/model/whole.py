"""A full fine-tune: every weight of the denoiser is trained, and the result is a whole model."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from attrs import evolve, frozen

from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.diffusion.families.parts.components import DTYPES, inner, load
from trainyard.trainer.diffusion.model.trained import load_into
from trainyard.trainer.diffusion.weights import Weights, holds_tensors

if TYPE_CHECKING:
    from schemas.diffusion import Options

_INDEX = "model_index.json"
_CPU = torch.device("cpu")


@frozen
class Whole:
    """See `trained.Trained`."""

    denoiser: Any
    family: Family
    weights: Weights
    options: "Options"
    network: None = None

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """See `trained.Trained`."""
        return dict(self.denoiser.named_parameters())

    def save(self, folder: Path) -> None:
        """As a component of a diffusers folder."""
        self.denoiser.save_pretrained(folder / self.family.part)

    def load(self, folder: Path) -> None:
        """See `trained.Trained`; what is no parameter follows from the configuration."""
        tensors = dict(self.denoiser.state_dict(keep_vars=True))
        load_into(tensors, sorted((folder / self.family.part).glob("*.safetensors")))

    def write(self, folder: Path) -> None:
        """A diffusers folder: the trained denoiser among the other components as they were.

        What came out of single files is written as diffusers lays it out, in the precision that it had.
        """
        own = self.weights.index()
        pipeline = None if own else self.family.pipeline(self.weights, self.denoiser, None, self.options)
        index = own or self._index(pipeline)
        for part, kind in index.items():
            source = self.weights.at(part)
            if part.startswith("_") or part == self.family.part or not isinstance(kind, list) or not kind[0]:
                continue
            if source is None and part == "scheduler" and pipeline is not None:
                pipeline.scheduler.save_pretrained(folder / part)
            elif source is not None and source.is_dir():
                _copy(source, folder / part)
            elif source is not None:
                self._unpacked(part).save_pretrained(folder / part)
        (folder / _INDEX).write_text(json.dumps(index, indent=2))
        self.save(folder)

    def _index(self, pipeline: Any) -> dict[str, Any]:
        """What diffusers writes of the stock pipeline, for a model that was none of its folders."""
        import diffusers

        stock = next(kind for kind in type(pipeline).__mro__ if kind.__module__.startswith("diffusers."))
        kinds = {
            **self.family.classes,
            self.family.part: type(inner(self.denoiser)).__name__,
            "scheduler": type(pipeline.scheduler).__name__,
        }
        parts = {part: [_library(name), name] for part, name in kinds.items()}
        return {"_class_name": stock.__name__, "_diffusers_version": diffusers.__version__, **parts}

    def _unpacked(self, part: str) -> Any:
        name = self.family.classes[part]
        if part == "vae":
            return self.family.vae(self.weights, evolve(self.options, vae_dtype="default"), _CPU)
        import transformers

        return load(getattr(transformers, name), self.weights, part, DTYPES[self.weights.precision(part)], _CPU)


def _library(kind: str) -> str:
    import diffusers

    return "diffusers" if hasattr(diffusers, kind) else "transformers"


def _copy(source: Path, target: Path) -> None:
    """A tokenizer may lie in the folder of a whole model."""
    alone = target.name.startswith("tokenizer")

    def left_out(folder: str, names: list[str]) -> list[str]:
        inside = (Path(folder) / name for name in names)
        return [path.name for path in inside if alone and (path.is_dir() or holds_tensors(path))]

    shutil.copytree(source, target, ignore=left_out)
