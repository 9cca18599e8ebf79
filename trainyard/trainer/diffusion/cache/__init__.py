"""Latents and embeddings that are computed once, and the loader that reads them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainyard.trainer.diffusion.cache.encoders import Encoders, Vae
    from trainyard.trainer.diffusion.cache.latents import Latents
    from trainyard.trainer.diffusion.cache.loader import Loader
    from trainyard.trainer.diffusion.cache.placing import Places, places
    from trainyard.trainer.diffusion.cache.preparing import Caches, prepare
    from trainyard.trainer.diffusion.cache.texts import Prompt, Texts

__all__ = ["Caches", "Encoders", "Latents", "Loader", "Places", "Prompt", "Texts", "Vae", "places", "prepare"]

_MODULES = {
    "Caches": "preparing",
    "Encoders": "encoders",
    "Latents": "latents",
    "Loader": "loader",
    "Places": "placing",
    "Prompt": "texts",
    "Texts": "texts",
    "Vae": "encoders",
    "places": "placing",
    "prepare": "preparing",
}


def __getattr__(name: str) -> Any:
    """A module is imported when a name of it is first asked for: `places` needs no torch, the others do."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
