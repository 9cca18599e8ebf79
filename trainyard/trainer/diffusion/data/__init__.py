"""What a job is trained on: pictures, their captions, their frames, and the order in which they come."""

from trainyard.trainer.diffusion.data.batch import Batch, Drawn
from trainyard.trainer.diffusion.data.epochs import Epochs
from trainyard.trainer.diffusion.data.gallery import Gallery
from trainyard.trainer.diffusion.data.images import pixels
from trainyard.trainer.diffusion.data.picture import Frame, Picture
from trainyard.trainer.diffusion.data.survey import survey

__all__ = ["Batch", "Drawn", "Epochs", "Frame", "Gallery", "Picture", "pixels", "survey"]
