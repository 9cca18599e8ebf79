"""What is trained of a denoiser, in which numbers, and how it is kept."""

from trainyard.trainer.diffusion.model.adapters import put_on
from trainyard.trainer.diffusion.model.precision import Precision
from trainyard.trainer.diffusion.model.trained import Trained

__all__ = ["Precision", "Trained", "put_on"]
