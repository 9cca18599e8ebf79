"""Notes of the log folders that are kept, in `<data>/mirrors`: what a killed service left unfinished is completed."""

import json
import shutil
from pathlib import Path

from common.folder import write_whole


def write(register: Path, uid: str, job_id: str, place: str) -> None:
    """Whole or absent."""
    register.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_whole(register / uid, json.dumps({"job_id": job_id, "folder": place}).encode())


def remove(register: Path, uid: str) -> None:
    """Forget a folder, and what was kept here of one in an object store."""
    if (register / f"{uid}.files").exists():
        shutil.rmtree(register / f"{uid}.files")
    (register / uid).unlink(missing_ok=True)


def read(register: Path) -> dict[str, dict[str, str]]:
    """The notes by uid; hidden files are those that a kill left half written."""
    if not register.is_dir():
        return {}
    return {path.name: json.loads(path.read_bytes()) for path in register.iterdir() if "." not in path.name}
