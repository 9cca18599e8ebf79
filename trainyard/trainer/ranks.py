"""What the processes of one run and their launcher write for each other: who is who, and who ended how."""

import json
import os
import threading
import time
from pathlib import Path

from attrs import asdict, frozen

from common.exits import Exit


@frozen
class Ended:
    """How one process of a run ended: by a code or by a signal; neither where nobody saw it."""

    rank: int
    code: int | None
    signal: int | None
    message: str
    at: float
    #: It ended because another one had.
    bereaved: bool = False
    #: It ended as all did at the same point; the first of them goes on to tell it, and to leave what is left to do.
    together: bool = False

    @property
    def badly(self) -> bool:
        """Whether the run can't go on without it."""
        return self.code != Exit.DONE and not self.together

    @property
    def known(self) -> bool:
        """Whether somebody saw how."""
        return self.code is not None or self.signal is not None

    def __str__(self) -> str:
        return f"process {self.rank}: {self.message}"


@frozen
class Ranks:
    """A folder of the attempt: `<rank>.pid`, `<rank>.json` when it has ended, and from the launcher `first.json`."""

    folder: Path

    @classmethod
    def of(cls, attempt: Path) -> "Ranks":
        return cls(attempt / "ranks")

    def enter(self, rank: int) -> None:
        """From here on this process takes signals."""
        _put(self.folder / f"{rank}.pid", f"{os.getpid()}".encode())

    def pids(self) -> dict[int, int]:
        """The process of each rank that has entered."""
        return {int(p.stem): int(p.read_text()) for p in self.folder.glob("*.pid")}

    def leave(self, rank: int, code: int, message: str, bereaved: bool = False, together: bool = False) -> None:
        """This process ends. Written before it closes anything: so the first to fail is the first here."""
        self._write(str(rank), Ended(rank, code, None, message, time.time(), bereaved, together))

    def left(self, rank: int) -> Ended | None:
        """As that process told it."""
        return _read(self.folder / f"{rank}.json")

    def earliest(self) -> Ended | None:
        """The first that told it ended badly, and not because of another."""
        told = [e for e in map(_read, self.folder.glob("[0-9]*.json")) if e is not None]
        return min((e for e in told if e.badly and not e.bereaved), key=lambda e: e.at, default=None)

    def name_first(self, ended: Ended) -> None:
        """The launcher saw who ended first; the others learn that it was not they."""
        self._write("first", ended)

    def first(self, seconds: float) -> Ended | None:
        """Who ended first, as the launcher saw it; waited for."""
        until = time.monotonic() + seconds
        while (found := _read(self.folder / "first.json")) is None and time.monotonic() < until:
            time.sleep(0.02)
        return found

    def _write(self, name: str, ended: Ended) -> None:
        _put(self.folder / f"{name}.json", json.dumps(asdict(ended)).encode())


def _put(path: Path, content: bytes) -> None:
    """Whole or absent for who looks meanwhile; nobody does after a power cut, so nobody waits for the disk."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    aside.write_bytes(content)
    aside.rename(path)


def _read(path: Path) -> Ended | None:
    try:
        return Ended(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
