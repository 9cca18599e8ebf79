"""What is left out of imports."""

import subprocess
import sys

import pytest

_SEEN = """
import sys
from trainyard.trainer.{engine} import engine
from trainyard.trainer.imports import quickly
with quickly(*engine._UNUSED):
    print(*sorted(name for name, module in sys.modules.items() if module is None and name in ("boto3", "scipy")))
"""


@pytest.mark.parametrize(("engine", "hidden"), [("text", ["boto3", "scipy"]), ("diffusion", ["boto3"])])
def test_scipy_stays_for_the_engine_whose_samplers_need_it(engine, hidden):
    seen = subprocess.run([sys.executable, "-c", _SEEN.format(engine=engine)], capture_output=True, text=True)
    assert seen.stdout.split() == hidden, seen.stderr
