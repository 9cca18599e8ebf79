"""One run of a job, as its folder shows it."""

import json
from pathlib import Path
from typing import Any

from attrs import frozen

from common.folder import JobFolder, Pair


@frozen
class Run:
    """One run of a job."""

    folder: JobFolder
    uid: str
    pair: Pair

    @property
    def name(self) -> str:
        """What every process of it has as `TRAINYARD_RUN`."""
        return f"{self.uid}.{self.pair}"

    @property
    def claim(self) -> Path:
        return self.folder.attempt(self.pair)

    @property
    def events(self) -> Path:
        return self.claim / "events.jsonl"

    @property
    def source(self) -> str:
        """The name of its event file in cursors."""
        return f"attempts/{self.pair}/events.jsonl"

    def outcome(self) -> dict[str, Any] | None:
        """`exit.json`; None while there is none."""
        return read_record(self.claim / "exit.json")

    def ended(self) -> bool:
        return (self.claim / "exit.json").exists()


def claimed(folder: JobFolder, uid: str, attempt: int) -> Run | None:
    """The newest run that claimed an attempt."""
    pairs = folder.restarts(attempt)
    return Run(folder, uid, pairs[-1]) if pairs else None


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON object of the job folder; None where it is absent or not whole."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
