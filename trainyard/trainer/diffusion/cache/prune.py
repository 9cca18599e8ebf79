"""Remove from a cache what no job wanted for a while: `python -m trainyard.trainer.diffusion.cache.prune FOLDER`.

Every job marks what it wants as used when it starts, so what is older than the longest job can go. What is removed too
early is made anew by the job that needs it. Another way that needs no program: no job runs on a folder
`<kind>-<digest>`, so that whole folder can go; its `about.json` says what it is of.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from attrs import define

_DAY = 86_400.0


@define
class Removed:
    """What was removed."""

    files: int = 0
    bytes: int = 0


def prune(folder: Path, days: float) -> Removed:
    """Remove the tensors under `folder` that no job wanted for so many days. Jobs may run meanwhile."""
    removed, before = Removed(), time.time() - days * _DAY
    for path in _files(folder):
        try:
            found = path.stat()
            if found.st_mtime < before:
                path.unlink()
                removed.files += 1
                removed.bytes += found.st_size
        except FileNotFoundError:
            continue
    return removed


def _files(folder: Path) -> Iterator[Path]:
    """Of the shelves in a folder, and of the folder itself where it is one."""
    for about in sorted({*folder.glob("about.json"), *folder.rglob("about.json")}):
        yield from about.parent.glob("??/??/*.safetensors")


def main() -> None:
    """As the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a cache folder, or one that several lie in")
    parser.add_argument("--days", type=float, default=30.0, help="keep what was wanted since (30)")
    given = parser.parse_args()
    if not given.folder.is_dir():
        parser.error(f"{given.folder} is no folder")
    removed = prune(given.folder, given.days)
    sys.stdout.write(f"removed {removed.files:,} files, {removed.bytes:,} bytes\n")


if __name__ == "__main__":
    main()
