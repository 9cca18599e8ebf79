"""The small decoder that previews are made with: the one that is asked for, else the family's own, if it can be had."""

from pathlib import Path

import torch

from common.storage import local_path
from schemas.diffusion import Options
from trainyard.trainer.diffusion.families.family import Family
from trainyard.trainer.diffusion.validation.previews import Tiny
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.failures import ConfigError, DiskFull, ModelError, SourceRefused
from trainyard.trainer.run import Run
from trainyard.trainer.sources.hub import Place, fetch_model

_AT, _REVISION = "extra_parameters.validation_preview_decoder", "main"


def find(run: Run, options: Options, family: Family, weights: Weights, device: torch.device) -> Tiny | None:
    """None where a hub does not give it, or one that does not fit: the log says why, colours are fitted in its place.

    Raises `ConfigError` for what is no hub id, for a folder that is none of a decoder that fits, and what the run's
    control raises.
    """
    asked, channels = options.validation_preview_decoder, weights.config("vae").get("latent_channels")
    if asked is not None and (path := local_path(asked)) is not None and (path.is_absolute() or path.exists()):
        return Tiny.load(str(path), channels, device)
    name = asked or family.tiny_vae
    if name is None:
        return None
    place = _place(name)
    try:
        found = Tiny.load(str(_fetched(run, place)), channels, device)
    except (ConfigError, DiskFull, ModelError, SourceRefused) as e:
        run.report.log(f"previews are colours fitted to the training pictures: {e}")
        return None
    run.report.log(f"previews are decoded by {name}")
    return found


def _place(name: str) -> Place:
    place = Place.of(f"hf://{name.removeprefix('hf://')}")
    if place is None or place.kind != "model" or place.path:
        raise ConfigError(f"{_AT}: {name}: a hub id, owner/name, or the folder of a decoder would be right")
    return place


def _fetched(run: Run, place: Place) -> Path:
    token = run.secrets.get("base_model.huggingface_token", "base_model.auth_token")
    revision, check, say = place.revision or _REVISION, run.control.check, run.report.log
    return fetch_model(place.repository, revision, token, True, _AT, check, say, patient=False)
