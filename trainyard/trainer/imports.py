"""Importing torch and its friends in less time."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def quickly(*unused: str) -> Iterator[None]:
    """Around imports: nothing is collected, for modules stay, and nothing `unused` is imported along.

    Three thousand modules make the collector walk all of them again and again, a sixth of the time. What is left out
    can be imported afterwards; to those who asked meanwhile it stays absent.
    """
    hidden = [name for name in unused if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        for name in hidden:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


def list_models_once() -> None:
    """Import transformers, whose thousand files of models are read again, else, with the first model that is used."""
    from transformers.utils import import_utils

    models = Path(import_utils.__file__).parents[1] / "models"
    listed = getattr(import_utils, "create_import_structure_from_path", None)
    if listed is None or f"{models.parent.name}.models" in sys.modules:
        return

    def found(path: str | Path) -> object:
        """The first time it was asked by the folder's path, the second time by that of its `__init__.py`."""
        return listed(models if Path(path) == models / "__init__.py" else path)

    import_utils.create_import_structure_from_path = found
