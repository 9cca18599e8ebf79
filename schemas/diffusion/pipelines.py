"""What a model's `model_index.json` says of its family."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from schemas.diffusion.files import read_regular

INDEX: Final = "model_index.json"


@frozen
class Known:
    """A pipeline class of diffusers: the family that trains its models, and the flavour where the class tells it."""

    family: str
    flavour: str | None = None


PIPELINES: Final[Mapping[str, Known]] = {
    "PixArtSigmaPipeline": Known("pixart_sigma"),
    "FluxPipeline": Known("flux"),
    "FluxKontextPipeline": Known("flux", "kontext"),
    "StableDiffusionXLPipeline": Known("sdxl"),
}
#: What models of a family predict, where nothing else is asked.
PREDICTIONS: Final[Mapping[str, str]] = {"pixart_sigma": "epsilon", "flux": "flow_matching", "sdxl": "epsilon"}

#: Families and flavours whose models are shown pictures to edit.
EDITORS: Final = frozenset({("flux", "kontext")})


def pipeline_of(folder: Path) -> str | None:
    """The class that a model's index names; None where there is no index that can be read."""
    try:
        found = json.loads(read_regular(folder / INDEX)).get("_class_name")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return found if isinstance(found, str) else None
