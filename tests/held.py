"""A run in a process of its own that stands still at a step until it is let go on: what a test does is never too late.

Put `held(FOLDER, STEP)` before Python's path of a run whose HOME is that folder.
"""

from pathlib import Path

_NAME = "steps-allowed"
_HOLDS = f"""
import os
import time
from pathlib import Path

from trainyard.trainer.reporting import Reporter


def event(self, kind, data, tell=Reporter.event):
    tell(self, kind, data)
    while kind == "progress" and data["step"] >= int(Path(os.environ["HOME"], "{_NAME}").read_text()):
        time.sleep(0.01)


Reporter.event = event
"""


def held(home: Path, step: int) -> str:
    """A folder for Python's path; the run then stands still once it has told `step`."""
    folder = home / "held"
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(_HOLDS)
    go_on_to(home, step)
    return str(folder)


def go_on_to(home: Path, step: int = 1 << 30) -> None:
    """Let it go on until it has told this step; without one, to its end."""
    new = home / f"{_NAME}.new"
    new.write_text(str(step))
    new.rename(home / _NAME)
