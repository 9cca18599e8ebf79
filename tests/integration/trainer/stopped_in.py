"""`stopped_in.py MODULE:NAME SECONDS JOBDIR`: the trainer, which gets SIGTERM so long after a function was called.

The function must still be at work then, or this ends with 1. When it was is written into `stopped_at` of the job.
"""

import importlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any


def main(where: str, seconds: float, job: str) -> None:
    module, _, names = where.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = names.split(".")
    for part in outer:
        owner = getattr(owner, part)
    function, over = getattr(owner, name), threading.Event()

    def stop() -> None:
        if over.wait(seconds):
            os._exit(1)
        (Path(job) / "stopped_at").write_text(f"{time.time()}")
        os.kill(os.getpid(), signal.SIGTERM)

    def called(*given: Any, **named: Any) -> Any:
        setattr(owner, name, function)
        striking = threading.Thread(target=stop, daemon=True)
        striking.start()
        if not seconds:
            striking.join()  # what is struck at once may be over sooner than a thread begins
        try:
            return function(*given, **named)
        finally:
            over.set()

    setattr(owner, name, called)
    from trainyard.trainer.__main__ import _leave_now
    from trainyard.trainer.__main__ import main as train

    _leave_now(train([job]))


main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
