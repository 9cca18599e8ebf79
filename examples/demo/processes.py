"""The processes that the demo starts: short programs, and the server; none of them outlives it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL", "LD_LIBRARY_PATH")
_STARTS_WITHIN, _STOPS_WITHIN = 30.0, 20.0
_GRACE_SECONDS = 10


class DemoError(Exception):
    """The demo can't go on; the message says why."""


def clean_environment() -> dict[str, str]:
    """The user's own variables alone: no settings of another service, no credentials, and no hub."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1", "TRAINYARD_GRACE_SECONDS": str(_GRACE_SECONDS)}


async def run_program(program: Path, *arguments: str, given: bytes = b"") -> bytes:
    """Run one of the demo's own programs to its end; what it wrote. It is killed when the demo is interrupted."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(),
        start_new_session=True,
    )
    try:
        written, complaints = await process.communicate(given)
    finally:
        await _end(process, signal.SIGKILL)
    if process.returncode != 0:
        raise DemoError(f"{program.name} ended with {process.returncode}:\n{complaints.decode(errors='replace')}")
    return written


@contextlib.asynccontextmanager
async def serving(data_dir: Path, log: Path) -> AsyncIterator[str]:
    """`trainyard server` on a free port of this machine; its URL once it is ready. Stopped at the end."""
    command = [sys.executable, "-P", "-m", "trainyard.cli", "server", "--host", "127.0.0.1", "--port", "0"]
    data_dir.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            *command,
            *("--data-dir", str(data_dir), "--log-format", "json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=clean_environment(),
            start_new_session=True,  # a terminal's Ctrl-C is the demo's: it needs the server to cancel its jobs
            cwd=data_dir,
        )
    try:
        yield await _url(process, log)
    finally:
        await _end(process, signal.SIGTERM)


async def _url(process: asyncio.subprocess.Process, log: Path) -> str:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_STARTS_WITHIN):
            while process.returncode is None:
                if (url := _said(log)) is not None:
                    return url
                await asyncio.sleep(0.05)
    said = log.read_text(encoding="utf-8", errors="replace").strip()
    raise DemoError(f"the server did not start: {' '.join(said.splitlines()[-5:]) or 'it said nothing'} ({log})")


def _said(log: Path) -> str | None:
    """The URL in the server's line "serving"."""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and record.get("event") == "serving":
                return str(record["url"])
    return None


async def _end(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Signal a process, and kill it where that does not end it."""
    if process.returncode is None:
        process.send_signal(number)
    try:
        async with asyncio.timeout(_STOPS_WITHIN):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
