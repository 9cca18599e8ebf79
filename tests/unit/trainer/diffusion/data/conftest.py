"""Looks through folders of pictures as a job would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from PIL import Image

from schemas.diffusion import Options
from schemas.diffusion.dataloader import Entry
from trainyard.trainer.diffusion.data import Epochs, Gallery, survey

#: What a test does not say itself: small pictures, every one kept.
SMALL = Options(
    resolution=64,
    aspect_bucket_alignment=8,
    caption_strategy="filename",
    caption_dropout_probability=0,
    disable_bucket_pruning=True,
    train_batch_size=1,
)


@pytest.fixture
def small() -> Callable[..., Options]:
    """Options for small pictures; keywords change them."""
    return lambda **changes: attrs.evolve(SMALL, **changes)


@pytest.fixture
def paint(tmp_path: Path) -> Callable[..., Path]:
    """Writes plain pictures of given sizes: `paint("a", one=(64, 48))` is `a/one.png`."""

    def made(folder: str, suffix: str = "png", **sizes: tuple[int, int]) -> Path:
        (tmp_path / folder).mkdir(exist_ok=True)
        for n, (name, size) in enumerate(sizes.items()):
            colour = (n * 37 % 256, n * 91 % 256, len(name) * 20 % 256)
            Image.new("RGB", size, colour).save(tmp_path / folder / f"{name}.{suffix}")
        return tmp_path / folder

    return made


def entry(folder: Path, id: str = "one", **fields: Any) -> Entry:
    """An entry of the dataloader."""
    told = {"id": id, "at": f"data_backend_config[{id}]", "instance_data_dir": str(folder)}
    return Entry(**told | fields)


@pytest.fixture
def look() -> Callable[..., Gallery]:
    """Looks through `look(entry, …)`, or the one set of a folder: `look(folder, crop=True, options={…}, seed=2)`."""

    def looked(*of: Path | Entry, options: dict[str, Any] | None = None, **fields: Any) -> Gallery:
        kept = {name: fields.pop(name) for name in ("stride", "seed", "cache", "say", "check") if name in fields}
        entries = [one if isinstance(one, Entry) else entry(one, **fields) for one in of]
        return survey(entries, attrs.evolve(SMALL, **(options or {})), **{"stride": 8, "seed": 1} | kept)

    return looked


@pytest.fixture
def make_entry() -> Callable[..., Entry]:
    """`make_entry(folder, id, **fields)`."""
    return entry


@pytest.fixture
def epochs(paint: Callable[..., Path], look: Callable[..., Gallery]) -> Callable[..., Epochs]:
    """`epochs({"a": {"square": 5, "wide": 2, "repeats": 1}}, processes=2, train_batch_size=4)`: sets with so many."""

    def made(sets: dict[str, dict[str, Any]], processes: int = 1, seed: int = 1, **options: Any) -> Epochs:
        entries = []
        for id, told in sets.items():
            fields = {**told}
            sizes = {f"s{n}": (64, 64) for n in range(fields.pop("square", 0))}
            sizes |= {f"w{n}": (100, 50) for n in range(fields.pop("wide", 0))}
            entries.append(entry(paint(id, **sizes), id, **fields))
        return Epochs(look(*entries, options=options), attrs.evolve(SMALL, **options), seed, processes)

    return made
