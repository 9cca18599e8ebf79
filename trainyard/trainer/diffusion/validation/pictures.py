"""Pictures as files: whole or not there, and several of them in one."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen
from PIL import Image

from trainyard.trainer.finishing import flush
from trainyard.trainer.run import Run

FOLDER = "validation"
_GRID = "grid.png"
_CELL = 384


@frozen
class Files:
    """Where the pictures of a run lie: `validation/step-<n>/` under its output."""

    run: Run
    #: `png`, `webp` or `jpeg`.
    format: str
    #: 1 to 100, of webp and jpeg.
    quality: int

    @property
    def folder(self) -> Path:
        """All of them."""
        return self.run.spec.output / FOLDER

    def write(self, picture: Image.Image, step: int, name: str) -> dict[str, str]:
        """`path` under the output and `uri` of the file, which is there as a whole. Raises `Fenced`, `OSError`."""
        target = self.folder / f"step-{step}" / f"{name}.{self.format}"
        more = {} if self.format == "png" else {"quality": self.quality}
        aside = self._aside / target.name
        aside.parent.mkdir(parents=True, exist_ok=True)
        picture.save(aside, format=self.format, **more)
        flush(aside)
        self.run.fence.check()
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.replace(target)
        return {"path": target.relative_to(self.run.spec.output).as_posix(), "uri": self.run.spec.uri(target)}

    def clear(self) -> None:
        """Leave nothing half-written."""
        shutil.rmtree(self._aside, ignore_errors=True)

    def grid(self) -> Path | None:
        """The pictures of the newest step in one file beside them; None where there are none of the trained model."""
        steps = {int(p.name.removeprefix("step-")): p for p in self.folder.glob("step-*") if p.is_dir()}
        newest = steps[max(steps)] if steps and max(steps) > 0 else None
        if newest is None:
            return None
        files = sorted(p for p in newest.iterdir() if p.is_file() and p.name != _GRID)
        if not files:
            return None
        aside = self._aside / _GRID
        aside.parent.mkdir(parents=True, exist_ok=True)
        grid([_opened(path) for path in files]).save(aside)
        self.run.fence.check()
        aside.replace(newest / _GRID)
        self.clear()
        return newest / _GRID

    @property
    def _aside(self) -> Path:
        return self.run.spec.output / f".{FOLDER}.tmp-{self.run.claim.pair}"


def grid(pictures: Sequence[Image.Image]) -> Image.Image:
    """All of them side by side in rows, each in a square cell, none enlarged."""
    cell = min(_CELL, max(max(picture.size) for picture in pictures))
    columns = math.ceil(math.sqrt(len(pictures)))
    whole = Image.new("RGB", (columns * cell, math.ceil(len(pictures) / columns) * cell), "white")
    for n, picture in enumerate(pictures):
        small = picture.copy()
        small.thumbnail((cell, cell))
        left = n % columns * cell + (cell - small.width) // 2
        top = n // columns * cell + (cell - small.height) // 2
        whole.paste(small, (left, top))
    return whole


def _opened(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")
