"""Where data lies: which URIs are local paths, which need an extra, and what a job's own folder in them is."""

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit


def scheme(uri: str) -> str:
    """The URI's scheme, `file` for a path."""
    head, found, _ = uri.partition("://")
    return head.lower() if found else "file"


def local_path(uri: str) -> Path | None:
    """The path of a local URI, or None for any other."""
    if scheme(uri) != "file":
        return None
    return Path(unquote(urlsplit(uri).path)) if uri.startswith("file://") else Path(uri)


def with_job(uri: str, job_id: str) -> str:
    """`uri` with the job's id as its last folder (contract train.md, 2)."""
    bare = uri.rstrip("/")
    return bare if bare.rpartition("/")[2] == job_id else f"{bare}/{job_id}"


def checkpoint_owner(output: Path, uid: str | None = None) -> str | None:
    """The first complete checkpoint under a job's output that is not of the job `uid`; None when there is none."""
    folder = output / "checkpoints"
    try:
        marks = sorted(folder.glob("step-*/checkpoint.json"))
    except OSError:
        return None
    for mark in marks:
        try:
            owner = json.loads(mark.read_bytes()).get("uid")
        except (OSError, ValueError, AttributeError):
            continue
        if owner != uid:
            return str(mark.parent)
    return None
