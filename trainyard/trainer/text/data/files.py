"""Which files a dataset is: one file, or the files of its format in a folder, and of those the ones of a split.

The rule of `split`, where the format is a file's: a split is a file of that name (`train.jsonl`,
`train-00000-of-00002.parquet`), or all files below a subfolder of that name (`train/…`). A file that stands alone is
the split `train`. A folder that shows several splits and is asked for none gives `train`.
"""

import re
from pathlib import Path

from trainyard.trainer.failures import ConfigError, DataError, SourceRefused
from trainyard.trainer.text.data.material import Material

SUFFIXES = {
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "nemo": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv",),
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".feather", ".ipc"),
}
_SPLITS = frozenset({"train", "training", "test", "validation", "valid", "val", "dev", "eval"})
_SHARD = re.compile(r"[-_.]\d+(-of-\d+)?$")


def files_of(material: Material) -> list[tuple[Path, str]]:
    """The files of a dataset in their order, each with the name that it is shown by.

    Raises `ConfigError` for a split that can't be had, `DataError` when there is nothing, `SourceRefused` when it may
    not be read.
    """
    _check_split(material)
    root = material.path
    if root is None:
        raise ConfigError(f"{material.at}.format: {material.source} is a hub dataset; its format is hf")
    try:
        if not root.is_dir():
            _check_alone(material, root)
            return [(root, material.source)]
        found = sorted(
            path for path in root.rglob("*") if _of_format(path.relative_to(root), material) and path.is_file()
        )
    except PermissionError as e:
        raise SourceRefused(f"{material.source}: may not be read by the user that runs the job") from e
    if not found:
        raise DataError(
            f"{material.at}.source: {material.source} holds no file of format {material.format} "
            f"({', '.join(SUFFIXES[material.format])})"
        )
    chosen = _chosen(material, {path: _names(path.relative_to(root)) for path in found})
    return [(path, f"{material.source.rstrip('/')}/{path.relative_to(root).as_posix()}") for path in chosen]


def _check_split(material: Material) -> None:
    if material.split and re.search(r"[\[\]+]", material.split):
        raise ConfigError(
            f"{material.at}.split: {material.split!r} is a slice, which only format hf has; for a share of the rows "
            "give weight (0.1 is a seeded tenth), for a held-out share tuning_parameters.eval_ratio"
        )


def _check_alone(material: Material, path: Path) -> None:
    if material.split in (None, "", "train") or material.split in _names(Path(path.name)):
        return
    raise ConfigError(
        f"{material.at}.split: {material.split!r} is a file or a subfolder of a folder, and {material.source} is one "
        "file; leave split out, or give the folder"
    )


def _of_format(path: Path, material: Material) -> bool:
    hidden = any(part.startswith((".", "_")) for part in path.parts)
    return not hidden and path.suffix.lower() in SUFFIXES[material.format]


def _names(path: Path) -> set[str]:
    """The splits that a file may belong to: its own name without its number, and its folders."""
    return {_SHARD.sub("", path.stem), path.stem, *path.parts[:-1]}


def _chosen(material: Material, names: dict[Path, set[str]]) -> list[Path]:
    split = material.split
    shown = sorted(set().union(*names.values()) & _SPLITS)
    if not split:
        if len(shown) < 2:
            return list(names)
        if "train" not in shown:
            raise ConfigError(f"{material.at}.split: {material.source} has the splits {', '.join(shown)}; name one")
        split = "train"
    chosen = [path for path, own in names.items() if split in own]
    if not chosen:
        there = ", ".join(sorted({_SHARD.sub("", path.stem) for path in names})[:8])
        raise ConfigError(f"{material.at}.split: {material.source} has no {split!r}; it has {there}")
    return chosen
