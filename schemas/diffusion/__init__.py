"""Options of the diffusion engine, under the names that SimpleTuner's configurations have for them."""

from schemas.diffusion.definitions import Definition, definitions
from schemas.diffusion.options import Options

__all__ = ["Definition", "Options", "definitions"]
