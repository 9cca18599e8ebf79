"""`job`: a tiny model of any family, trained in this process on real pictures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.diffusion_here import DiffusionHere
from tests.pictures import draw, edits
from tests.tiny_diffusion import shared_tiny


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("pictures") / "drawn", count=12, ratios=(1.0, 4 / 3))


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return edits(tmp_path_factory.mktemp("pairs"), count=6, ratios=(1.0,))


@pytest.fixture
def job(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Callable[..., DiffusionHere]:
    """A job of a family; `shape` is the tiny model's, keywords are options."""

    def made(family: str = "flux", folder: str = "a", shape: dict[str, Any] | None = None, **options: Any) -> Any:
        model = shared_tiny(family, tmp_path_factory, **(shape or {}))
        here = DiffusionHere(tmp_path / folder, model, pictures, **options)
        here.cache = tmp_path_factory.getbasetemp() / "diffusion-cache"
        return here

    return made
