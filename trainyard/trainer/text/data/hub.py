"""Datasets of format `hf`: a hub's, a copy of its folder, or what `save_to_disk` wrote; by the `datasets` library.

The rule of `split`: the name of a split, or a slice of it (`train[:10%]`, `train[100:200]`; of a streamed one in rows
only); `configuration/split` where a hub dataset has several configurations. None given: `train`, or the only one.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from trainyard.trainer.failures import (
    ConfigError,
    DataError,
    ModelError,
    RunEnded,
    SourceRefused,
    chain,
    first_line,
    from_source,
)
from trainyard.trainer.text.data.lines import Item
from trainyard.trainer.text.data.material import Material
from trainyard.trainer.text.data.shapes import KEYS

_ROWS_AT_ONCE = 1_000
_SLICE = re.compile(r"(?P<name>[^\[\]+]+)(?:\[(?P<first>\d+%?)?:(?P<last>\d+%?)?\])?")


@frozen
class HubRows:
    """A dataset that was opened; `files` hold its rows on this machine, none where they are streamed."""

    dataset: Any
    name: str
    files: tuple[Path, ...]

    def read(self) -> Iterator[Item]:
        """The rows, of the columns that can be trained on, without their nulls. Raises `DataError`, `SourceRefused`."""
        number = 0
        try:
            for batch in self._known().iter(batch_size=_ROWS_AT_ONCE):
                for cells in zip(*batch.values(), strict=True):
                    number += 1
                    yield number, {key: cell for key, cell in zip(batch, cells, strict=True) if cell is not None}
        except RunEnded:
            raise
        except Exception as e:
            raise _failed(e, f"{self.name}: after row {number}") from e

    def _known(self) -> Any:
        names = self.dataset.column_names or []
        known = [name for name in names if name in KEYS]
        return self.dataset.select_columns(known) if known else self.dataset


def open_dataset(material: Material) -> HubRows:
    """Open a dataset at its split. Raises `ConfigError` for a split that it lacks, `DataError`, `SourceRefused`."""
    import datasets

    datasets.disable_progress_bars()
    wanted = material.split or ""
    configuration, _, split = wanted.rpartition("/")
    asked = _SLICE.fullmatch(split or "train")
    if asked is None:
        raise ConfigError(
            f"{material.at}.split: {wanted!r} must be the name of a split or a slice of it, such as train or "
            "train[:10%]"
        )
    name = asked["name"] if split else None
    try:
        found = _saved_split(material, name) if _saved(material) else _named_split(material, configuration, name)
    except RunEnded:
        raise
    except Exception as e:
        raise _failed(e, f"{material.at}.source: {material.source}") from e
    dataset = _cut(material, found, asked)
    files = [Path(str(file["filename"])) for file in getattr(dataset, "cache_files", ())]
    return HubRows(dataset, material.source, tuple(files))


def _saved(material: Material) -> bool:
    """Whether it is a folder that `save_to_disk` wrote. Raises `DataError` when there is neither folder nor hub id."""
    folder = material.path
    if folder is None and material.hub:
        return False
    if folder is None or not folder.is_dir():
        raise DataError(f"{material.at}.source: {material.source}: there is no such folder and no such hub dataset")
    return any((folder / mark).is_file() for mark in ("dataset_dict.json", "state.json"))


def _saved_split(material: Material, name: str | None) -> Any:
    import datasets

    found = datasets.load_from_disk(str(material.path))
    splits = found if isinstance(found, dict) else {str(found.split or "train"): found}
    return splits[_chosen(material, list(splits), name)]


def _named_split(material: Material, configuration: str, name: str | None) -> Any:
    """A split of a hub dataset, or of a copy of its folder; a streamed one is read only when its rows are."""
    import datasets

    if material.path is not None:
        place, revision = str(material.path), ""
    else:
        place, _, revision = (material.hub or "").removeprefix("hf://datasets/").rstrip("/").partition("@")
    arguments = {"revision": revision or None, "token": material.token}
    if material.streaming:
        splits = datasets.load_dataset(place, configuration or None, streaming=True, **arguments)
        return splits[_chosen(material, list(splits), name)]
    names = datasets.get_dataset_split_names(place, configuration or None, **arguments)
    split = _chosen(material, names, name)
    return datasets.load_dataset(place, configuration or None, split=split, **arguments)


def _chosen(material: Material, names: list[str], name: str | None) -> str:
    """The split that is meant. Raises `ConfigError` naming those that there are."""
    if name is None:
        if "train" not in names and len(names) > 1:
            raise ConfigError(f"{material.at}.split: {material.source} has the splits {', '.join(names)}; name one")
        return "train" if "train" in names else names[0]
    if name not in names:
        there = ", ".join(names) or "none"
        raise ConfigError(f"{material.at}.split: {material.source} has no {name!r}; it has {there}")
    return name


def _cut(material: Material, dataset: Any, asked: "re.Match[str]") -> Any:
    """The rows of a slice."""
    first, last = asked["first"], asked["last"]
    if first is None and last is None:
        return dataset
    if hasattr(dataset, "num_rows") and hasattr(dataset, "cache_files"):
        rows = dataset.num_rows
        return dataset.select(range(min(rows, _row(first, rows, 0)), min(rows, _row(last, rows, rows))))
    if "%" in f"{first}{last}":
        raise ConfigError(
            f"{material.at}.split: {material.split!r} is a share, but how many rows a streamed dataset has is not "
            "known; give a number of rows, such as train[:1000]"
        )
    begun = dataset.skip(int(first or 0))
    return begun if last is None else begun.take(max(0, int(last) - int(first or 0)))


def _row(mark: str | None, rows: int, otherwise: int) -> int:
    if mark is None:
        return otherwise
    return round(rows * int(mark[:-1]) / 100) if mark.endswith("%") else int(mark)


def _failed(error: Exception, what: str) -> RunEnded:
    """What a failure of the library means."""
    names = {type(cause).__name__ for cause in chain(error)}
    if "DatasetNotFoundError" in names and "OfflineModeIsEnabled" not in names:
        return SourceRefused(
            f"{what}: no such dataset on the hub, or it is private or gated and the token may not see it"
        )
    if names & {"EmptyDatasetError", "DataFilesNotFoundError"}:
        return DataError(f"{what}: it holds neither what save_to_disk wrote nor files of rows that datasets knows")
    if isinstance(error, ValueError):
        said = " ".join(str(error).split())[:400]
        hint = "; a configuration is named in split, as configuration/train" if "onfig" in said else ""
        return DataError(f"{what}: {said}{hint}")
    found = from_source(error, what)
    return DataError(f"{what}: {first_line(error)}") if isinstance(found, ModelError) else found
