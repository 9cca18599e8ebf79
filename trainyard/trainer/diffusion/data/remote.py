"""Data sets of pictures that lie elsewhere, brought here: folders of an object store or a hub, and archives."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from attrs import evolve

from common.storage import scheme
from schemas.diffusion.dataloader import Entry
from trainyard.trainer.failures import DataError, ModelError
from trainyard.trainer.secrets import Secrets
from trainyard.trainer.sources.how import How, how_of

if TYPE_CHECKING:
    from trainyard.trainer.run import Run

#: Of an archive of pictures, captions and folders.
_MOST_ENTRIES = 10_000_000


def remote(request: Mapping[str, Any], entries: Sequence[Entry]) -> bool:
    """Whether any of the document's own data sets is to be downloaded, where it is they that are trained on."""
    own = {entry.at for entry in entries}
    sets = enumerate(request.get("datasets") or ())
    return any(f"datasets[{n}]" in own and scheme(str(one["source"])) != "file" for n, one in sets)


def bring(run: "Run", entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """As `brought`, for a run."""
    if not remote(run.spec.request, entries):
        return entries
    run.report.phase("downloading")
    return brought(entries, run.spec.request, run.secrets, job_id=run.spec.job_id, **how_of(run))


def brought(
    entries: Sequence[Entry],
    request: Mapping[str, Any],
    secrets: Secrets,
    *,
    job_id: str = "",
    **how: Unpack[How],
) -> tuple[Entry, ...]:
    """The entries with folders of this machine; what was fetched is kept in `cache` for later jobs.

    Their ids stay those of their sources. Raises `DataError`, `SourceRefused`, `ConfigError`, `DiskFull`, and what
    `check` raises.
    """
    if not remote(request, entries):
        return tuple(entries)
    from trainyard.trainer.sources.datasets import fetch_datasets  # jobs of local pictures begin sooner without

    found = {}
    for one in fetch_datasets(request, secrets, job_id=job_id, **how):
        assert one.path is not None, "only data sets of format hf have none"
        at = f"{one.at}.source"
        found[one.at] = one.path if one.path.is_dir() else _unpacked(one.path, at, **how)
    return tuple(evolve(e, instance_data_dir=str(found[e.at])) if e.at in found else e for e in entries)


def _unpacked(file: Path, at: str, **how: Unpack[How]) -> Path:
    from trainyard.trainer.sources import archives

    try:
        kind = archives.kind_of(file, at)
    except ModelError as e:
        wanted = "a folder of pictures, or a .tar, .tar.gz or .zip of one, would be right"
        raise DataError(f"{at}: {file.name} is no archive; {wanted}") from e
    if kind == "safetensors":
        raise DataError(f"{at}: {file.name} is a file of weights; a folder of pictures would be right")
    try:
        return archives.unpacked(file, kind, at, entries=_MOST_ENTRIES, **how)
    except ModelError as e:
        raise DataError(str(e)) from e
