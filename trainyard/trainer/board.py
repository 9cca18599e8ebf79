"""TensorBoard files: the numbers of the run under `<output>/tensorboard/`, one file an attempt."""

import os
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

FOLDER = "tensorboard"
_VERSION = "brain.Event:2"


class Scalars(Protocol):
    """Writes the numbers of a run down."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None: ...


class Board:
    """Appends scalars at once and in this thread: a full disk is an `OSError` here, not a stuck queue.

    tensorboardX is imported with the first number, so that the first step waits for nothing. A resumed run writes a
    file of its own beside the older ones, and says from which step on it replaces them.
    """

    def __init__(self, output: Path, attempt: str, resumed_at: int, silent: bool = False) -> None:
        name = f"events.out.tfevents.{int(time.time())}.{os.uname().nodename}.{attempt}"
        self._path, self._resumed_at, self._silent = output / FOLDER / name, resumed_at, silent
        self._begun = False

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """The values of one step, by name."""
        if self._silent:
            return
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        now = time.time()
        events = []
        if not self._begun:
            self._begun = True
            self._path.parent.mkdir(parents=True, exist_ok=True)
            events.append(Event(wall_time=now, file_version=_VERSION))
            if self._resumed_at:
                begun = SessionLog(status=SessionLog.START)
                events.append(Event(wall_time=now, step=self._resumed_at + 1, session_log=begun))
        summary = Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
        events.append(Event(wall_time=now, step=step, summary=summary))
        with self._path.open("ab") as file:
            file.write(b"".join(map(_record, events)))


def _record(event: Any) -> bytes:
    """An event as TFRecord frames it: length, its checksum, content, its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    content = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
    return length + sums[0] + bytes(content) + sums[1]
