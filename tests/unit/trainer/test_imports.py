"""What is left out of imports."""

import subprocess
import sys

_SEEN = """
import sys
from trainyard.trainer.{module} import {name}
from trainyard.trainer.imports import quickly
from schemas.diffusion import Options
with quickly(*{call}):
    print(*sorted(name for name, module in sys.modules.items() if module is None and name in {names}))
"""


def hidden(module: str, call: str, *names: str) -> list[str]:
    code = _SEEN.format(module=module, name=call.partition("(")[0], call=call, names=names)
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert seen.returncode == 0, seen.stderr
    return seen.stdout.split()


def test_scipy_stays_for_the_engine_whose_samplers_need_it():
    assert hidden("text.quantiser", "UNUSED", "boto3", "scipy") == ["boto3", "scipy"]
    assert hidden("diffusion.engine", "unused(Options())", "boto3", "scipy") == ["boto3"]


def test_quantisers_are_imported_by_the_jobs_that_need_them():
    both = "bitsandbytes", "torchao"
    assert hidden("diffusion.engine", "unused(Options())", *both) == list(both)
    assert hidden("diffusion.engine", "unused(Options(optimizer='bnb-lion8bit'))", *both) == ["torchao"]
    assert hidden("diffusion.engine", "unused(Options(base_model_precision='int8-torchao'))", *both) == ["bitsandbytes"]


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
