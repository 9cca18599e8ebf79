"""What a job has no use for, and keeping it out of its imports; nothing heavy is imported here."""

import sys
from importlib.util import find_spec

from trainyard.trainer.text.settings import Settings

PACKAGE = "bitsandbytes"
#: What accelerate and transformers import where it is installed, and no text job has a use for.
UNUSED = ("boto3", "scipy", "torchao", "wandb")
INSTALL = "pip install 'trainyard[quant]' would do"


def quantises(settings: Settings) -> bool:
    """Whether the frozen base is held in 4 or 8 bits."""
    return settings.method == "qlora" or settings.precision == "int8"


def needed_for(settings: Settings) -> str | None:
    """The setting that needs the package, as it is named in the document; None for a job that needs it nowhere."""
    if settings.method == "qlora":
        return "customization.method: 'qlora'"
    if settings.precision == "int8":
        return "customization.precision: 'int8'"
    if settings.optimizer.endswith("_8bit"):
        return f"tuning_parameters.optimizer: {settings.optimizer!r}"
    return None


def installed() -> bool:
    """Whether it could be imported; that is not tried."""
    return find_spec(PACKAGE) is not None


def leave_out(settings: Settings) -> None:
    """Make peft, transformers and accelerate take bitsandbytes for absent in a job that needs it nowhere.

    peft imports it wherever it is installed, which takes a second or two. To be called before they are imported:
    None in `sys.modules` is Python's own way to say that a module is not there, for `find_spec` as for `import`.
    """
    if needed_for(settings) is None:
        sys.modules.setdefault(PACKAGE, None)  # type: ignore[arg-type]
