"""The processes of a run, as `/proc` shows them: found, signalled, ended. The standard library alone (`guard.py`)."""

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

LOOKS, BETWEEN_LOOKS = 5, 0.05  # at a process that blocks a signal


def read(of: int | str, file: str) -> bytes:
    """What `/proc` says of a process; empty where it is gone or not ours to read."""
    try:
        return Path(f"/proc/{of}/{file}").read_bytes()
    except OSError:
        return b""


def parents() -> dict[int, int]:
    """Every process of this machine, with its parent."""
    tree = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (stat := read(entry.name, "stat")):
            tree[int(entry.name)] = int(stat[stat.rindex(b")") + 1 :].split(None, 2)[1])
    return tree


def environment(pid: int) -> list[bytes]:
    """`NAME=value` as the process was started with."""
    return read(pid, "environ").split(b"\0")


def members(run: str, *, children: bool = False) -> dict[int, int]:
    """The processes marked `TRAINYARD_RUN=<run>` (and this one's `children`) and all below them, with their parents."""
    tree, own, mark = parents(), os.getpid(), f"TRAINYARD_RUN={run}".encode()
    tree.pop(own, None)
    found = {pid for pid, parent in tree.items() if (children and parent == own) or mark in environment(pid)}
    fresh = found
    while fresh:
        fresh = {pid for pid, parent in tree.items() if parent in fresh} - found
        found |= fresh
    return {pid: tree[pid] for pid in found}


def tops(pids: Iterable[int], tree: dict[int, int]) -> list[int]:
    chosen = set(pids)
    return sorted(pid for pid in chosen if tree[pid] not in chosen)


def ranks(found: dict[int, int]) -> list[int]:
    """The ranks themselves: neither their launcher nor the helpers that inherit `RANK` from them."""
    return tops((pid for pid in found if any(e.startswith(b"RANK=") for e in environment(pid))), found)


def send(pid: int, number: int) -> bool:
    """Send a signal; false where this user may not. A process that is gone already is no failure."""
    try:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    except PermissionError:
        return False
    return True


def heeds(pid: int, number: int) -> bool:
    """Whether the process catches, ignores or holds back the signal, and so does not die of it.

    A shell blocks every signal for the moment in which it starts a program: that is no holding back.
    """
    for _ in range(LOOKS):
        status = {line[:7]: line[7:] for line in read(pid, "status").splitlines()}
        masks = (int(status.get(key, b"0"), 16) for key in (b"SigBlk:", b"SigIgn:", b"SigCgt:"))
        blocked, ignored, caught = (mask >> (number - 1) & 1 for mask in masks)
        if ignored or caught or not blocked:
            return bool(ignored or caught)
        time.sleep(BETWEEN_LOOKS)
    return True


def name(pid: int) -> str:
    return read(pid, "comm").decode(errors="replace").strip() or "gone"


def processes_of(run: str) -> list[int]:
    """The processes of a run (`<uid>.<n>.<restart>`) on this machine, its guard not counted."""
    return sorted(members(run))


def end_run(run: str, grace: float = 0.0) -> int:
    """End what is left of a run whose guard is gone: SIGTERM, after `grace` seconds SIGKILL; how many there were.

    Returns when nothing is left (a process that this user may not kill is passed over). It blocks meanwhile.
    """
    seen: set[int] = set()
    refused: set[int] = set()
    kill_at = time.monotonic() + grace
    if grace > 0 and (found := members(run)):
        seen |= found.keys()
        for pid in ranks(found) or tops(found, found):
            send(pid, signal.SIGTERM)
    while left := members(run).keys() - refused:
        seen |= left
        if time.monotonic() >= kill_at:
            refused |= {pid for pid in sorted(left) if not send(pid, signal.SIGKILL)}
        time.sleep(0.02)
    return len(seen - refused)
