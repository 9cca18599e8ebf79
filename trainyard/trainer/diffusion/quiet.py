"""What libraries say goes through our masked log, and nothing draws bars into it."""

import logging
import warnings

from diffusers.utils import logging as of_diffusers
from transformers.utils import logging as of_transformers

#: What torchao and its importers say of parts that nothing here uses, wherever it is installed.
_OF_TORCHAO = ("torchao", "torch.utils._pytree", "diffusers.quantizers.torchao.torchao_quantizer")


def quiet() -> None:
    """For the whole process."""
    warnings.filterwarnings("ignore", ".is_gradient_checkpointing. is deprecated", FutureWarning)
    for library in (of_diffusers, of_transformers):
        library.disable_default_handler()
        library.enable_propagation()
        library.disable_progress_bar()
    for name in _OF_TORCHAO:
        logging.getLogger(name).setLevel(logging.ERROR)
