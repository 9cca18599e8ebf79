"""What is left out of imports."""

import subprocess
import sys

import pytest

_SEEN = """
import sys
from trainyard.trainer.{module} import {name}
from trainyard.trainer.imports import quickly
with quickly(*{name}):
    print(*sorted(name for name, module in sys.modules.items() if module is None and name in ("boto3", "scipy")))
"""


@pytest.mark.parametrize(
    ("module", "name", "hidden"),
    [("text.quantiser", "UNUSED", ["boto3", "scipy"]), ("diffusion.engine", "_UNUSED", ["boto3"])],
)
def test_scipy_stays_for_the_engine_whose_samplers_need_it(module, name, hidden):
    code = _SEEN.format(module=module, name=name)
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert seen.stdout.split() == hidden, seen.stderr


_LISTED = """
from trainyard.trainer.imports import list_models_once
list_models_once()
from transformers.utils import import_utils
own, read = import_utils.fetch__all__, []
import_utils.fetch__all__ = lambda text: read.append(text) or own(text)
from transformers import LlamaConfig, models
print(len(read) < 100, LlamaConfig.__name__, hasattr(models, "llama"))
"""


def test_the_thousand_files_of_models_are_read_once():
    seen = subprocess.run([sys.executable, "-c", _LISTED], capture_output=True, text=True)
    assert seen.stdout.split() == ["True", "LlamaConfig", "True"], seen.stderr
