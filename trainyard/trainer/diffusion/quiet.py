"""What libraries say goes through our masked log, and nothing draws bars into it."""

import warnings

from diffusers.utils import logging as of_diffusers
from transformers.utils import logging as of_transformers


def quiet() -> None:
    """For the whole process."""
    warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
    for library in (of_diffusers, of_transformers):
        library.disable_default_handler()
        library.enable_propagation()
        library.disable_progress_bar()
