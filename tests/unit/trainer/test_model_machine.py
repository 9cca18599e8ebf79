"""What can't be run on this machine is said before a weight is loaded; what is not needed is not imported."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import trainyard
from tests.methods import CPU, document
from trainyard.trainer.failures import ConfigError
from trainyard.trainer.text import model as models
from trainyard.trainer.text.settings import read_settings

ROOT = Path(trainyard.__file__).parents[1]
quantiser = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")


def settings(**more):
    return read_settings(document("nowhere", **more))


@pytest.mark.parametrize("method", ["full", "scratch"])
def test_int8_with_a_whole_model_is_refused_with_what_would_run(method):
    with pytest.raises(ConfigError, match=rf"precision: 'int8' .*method '{method}' trains it; .*method: lora"):
        models.check_machine(settings(method=method, precision="int8"), CPU)


def test_int8_and_qlora_are_one_too_many():
    with pytest.raises(ConfigError, match="quantise the same base"):
        models.check_machine(settings(method="qlora", precision="int8"), CPU)


@pytest.mark.parametrize(
    ("more", "at"),
    [
        ({"method": "qlora"}, "customization.method: 'qlora'"),
        ({"precision": "int8"}, "customization.precision: 'int8'"),
        ({"tuning": {"optimizer": "adamw_8bit"}}, "tuning_parameters.optimizer: 'adamw_8bit'"),
    ],
)
def test_a_quantiser_that_is_not_installed_is_named_with_its_extra(monkeypatch, more, at):
    wanted = settings(**more)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError) as refused:
        models.check_machine(wanted, CPU)
    assert str(refused.value).startswith(f"{at} needs bitsandbytes")
    assert "pip install 'trainyard[quant]'" in str(refused.value)


@quantiser
@pytest.mark.parametrize(
    "more",
    [
        {"method": "qlora", "qlora": {"use_double_quant": True}},
        {"precision": "int8"},
        {"tuning": {"optimizer": "paged_adamw_8bit"}},
        {"method": "full", "tuning": {"optimizer": "adamw_8bit"}},
    ],
)
def test_a_processor_runs_all_of_them(more):
    models.check_machine(settings(**more), CPU)


@quantiser
def test_a_kernel_that_fails_is_a_reason(monkeypatch):
    import bitsandbytes as bnb

    def missing(*_: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(bnb.nn.Linear4bit, "forward", missing)
    with pytest.raises(
        ConfigError, match="'qlora': bitsandbytes has no working kernel for this processor: no kernel image"
    ):
        models.check_machine(settings(method="qlora"), CPU)


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"precision": "fp32"}, None),
        ({"precision": "bf16"}, torch.bfloat16),
        ({"precision": "fp16", "method": "full"}, torch.float16),
        ({"precision": "int8"}, torch.bfloat16),
        ({"precision": "bf16", "method": "qlora", "qlora": {"bnb_4bit_compute_dtype": "float16"}}, torch.float16),
        ({"precision": "fp32", "method": "qlora"}, None),
    ],
)
def test_the_document_decides_what_is_computed_in(more, expected):
    assert models.computed_in(settings(**more), CPU) is expected


@quantiser
@pytest.mark.slow
@pytest.mark.parametrize(("custom", "imported"), [({"method": "lora"}, False), ({"method": "qlora"}, True)])
def test_bitsandbytes_is_imported_by_jobs_that_need_it_alone(tiny, tmp_path, custom, imported):
    program = f"""
import sys
from pathlib import Path
from trainyard.trainer.text.quantiser import leave_out
from trainyard.trainer.text.settings import read_settings

request = {document(tiny("llama"), **custom)!r}
leave_out(read_settings(request))
from tests.methods import train

train(request, Path({str(tmp_path)!r}), steps=1)
print("imported" if sys.modules.get("bitsandbytes") else "left out")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == ("imported" if imported else "left out")
