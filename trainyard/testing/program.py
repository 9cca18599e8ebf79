"""A tiny trainer for the conformance suite (docs/TRAINER.md): one file over the standard library, run by its path.

It tells its steps into the attempt's folder, answers commands, and leaves the way that its options say.
"""

import argparse
import faulthandler
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

STOPPED_SAVED = 75
TICK = 0.02
TRIES = 10
FAULT_OF_THE_SERVICE = 500
CHILD = "import os, time; os.setsid(); time.sleep(600)"


class Run:
    """What has been told and answered so far."""

    def __init__(self, steps: int, *, post: bool) -> None:
        self.url = os.environ["TRAINYARD_EVENTS_URL"] if post else None
        self.own = Path(os.environ["TRAINYARD_ATTEMPT_DIR"])
        self.job = Path(os.environ["TRAINYARD_SPEC"]).parent
        self.steps, self.step, self.told, self.answered = steps, 0, 0, 0

    def tell(self, kind: str, **data: object) -> None:
        """One line of `events.jsonl`, by one write; or one item that is posted."""
        self.told += 1
        at = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        record = {"format": 1, "n": self.told, "type": kind, "at": at, "data": data}
        if self.url is not None:
            post(self.url, [record])
            return
        line = json.dumps(record) + "\n"
        descriptor = os.open(self.own / "events.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, line.encode())
        os.close(descriptor)

    def checkpoint(self) -> None:
        self.tell("checkpoint", step=self.step, uri=f"{self.own}/step-{self.step}", bytes=0)

    def stop(self, *_: object) -> None:
        """Save, say so, leave."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        self.checkpoint()
        self.tell("end", step=self.step)
        os._exit(STOPPED_SAVED)

    def answer(self) -> None:
        """Obey the commands of this attempt that have come since the last look."""
        control = self.job / "control.jsonl"
        records = control.read_text().splitlines() if control.exists() else []
        for record in map(json.loads, records[self.answered :]):
            self.answered += 1
            if record.get("attempt") == self.own.name:
                self.obey(record)

    def obey(self, record: dict[str, Any]) -> None:
        command = record.get("command")
        if command not in ("checkpoint", "validate", "change", "stop"):
            self.tell("ack", id=record["id"], ok=False, message=f"there is no command {command!r}")
            return
        self.tell("ack", id=record["id"], ok=True, message=command, step=self.step + 1)
        if command == "checkpoint":
            self.checkpoint()
        elif command == "validate":
            self.tell("validation", step=self.step, metrics={"loss": 1.0})
        elif command == "stop":
            self.stop()

    def sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.answer()
            time.sleep(min(TICK, left))

    def say_secrets(self) -> None:
        """Blurt out everything secret that a run is given: it must be masked wherever it is shown."""
        attempt = self.own.name.partition(".")[0]
        secrets = json.loads((self.job / f"secrets.{attempt}").read_text())
        for value in [*secrets["values"].values(), *secrets["env"].values(), os.environ.get("CONFORMANCE_ENV", "")]:
            sys.stdout.write(f"a secret: {value}\n")
            self.tell("log", message=f"a secret: {value}")
        sys.stdout.flush()


def post(url: str, items: list[object]) -> None:
    """Send events to the service; it may be away for some seconds."""
    headers = {"Authorization": f"Bearer {os.environ['TRAINYARD_JOB_TOKEN']}", "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(items).encode(), headers)  # noqa: S310 the service's own
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for _ in range(TRIES):
        try:
            direct.open(request, timeout=TRIES).close()
            return
        except urllib.error.HTTPError as e:
            if e.code < FAULT_OF_THE_SERVICE:
                raise
        except OSError as e:
            sys.stderr.write(f"the service can't be reached at {url}: {e}\n")
        time.sleep(1)


def ignore(_number: int, _frame: FrameType | None) -> None:
    """A run that heeds no SIGTERM."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.0, help="that all steps take together")
    parser.add_argument("--code", type=int, default=0, help="the exit status after the last step")
    parser.add_argument("--signal", type=int, default=0, help="the signal to die of after the last step")
    parser.add_argument("--deaf", action="store_true", help="do not heed SIGTERM")
    parser.add_argument("--child", action="store_true", help="start a process in a session of its own and leave it")
    parser.add_argument("--secrets", action="store_true", help="print whatever is secret")
    parser.add_argument("--post", action="store_true", help="post the events")
    asked = parser.parse_args()
    run = Run(asked.steps, post=asked.post)
    signal.signal(signal.SIGTERM, ignore if asked.deaf else run.stop)
    faulthandler.register(signal.SIGUSR2)
    sys.stdout.write(f"conformance: attempt {run.own.name} began\n")
    sys.stdout.flush()
    if asked.child:
        subprocess.Popen([sys.executable, "-I", "-S", "-c", CHILD])
    if asked.secrets:
        run.say_secrets()
    run.tell("phase", phase="training")
    for step in range(1, asked.steps + 1):
        run.sleep(asked.seconds / asked.steps)
        run.step = step
        run.tell("progress", step=step, total_steps=asked.steps, loss=1.0 / step)
    run.answer()
    run.tell("end", step=run.step, final_uri=f"{run.own}/final")
    if asked.signal:
        os.kill(os.getpid(), asked.signal)
    sys.exit(asked.code)


if __name__ == "__main__":
    main()
