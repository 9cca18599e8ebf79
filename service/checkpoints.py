"""The checkpoints of a job that still exist, as its events told them."""

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.event import JobCheckpoint
from common.storage import local_path
from service.specs import read_spec
from service.store.base import Store

#: In the folder of each checkpoint of a run of ours; complete is what agrees with it.
RECORD = "checkpoint.json"


async def kept(store: Store, uid: str) -> list[dict[str, Any]]:
    """In the order in which they were written; of one that was written twice the newest."""
    events = _not_removed([json.loads(text) for text in await store.checkpoints(uid)])
    if not events:
        return []
    told = {event["data"]["uri"]: _checkpoint(event) for event in events}
    engine = read_spec((await store.job_by_uid(uid)).spec).engine
    is_there = Path.exists if engine == "command" else _is_complete  # a program of the caller's own keeps them its way
    return await asyncio.to_thread(_existing, list(told.values()), is_there)


async def newest_step(store: Store, uid: str, untold: Iterable[JobCheckpoint] = ()) -> int | None:
    """The step that a next attempt goes on from, as far as the service sees; None: from the start.

    `untold`: those that stand as well, and are about to be told.
    """
    found = await newest(store, uid)
    steps = [body.step for body in untold] + ([] if found is None else [int(found["step"])])
    return max(steps, default=None)


async def newest(store: Store, uid: str) -> dict[str, Any] | None:
    """The checkpoint that a next attempt goes on from, as far as the service sees."""
    return max(reversed(await kept(store, uid)), key=lambda entry: int(entry["step"]), default=None)


def _not_removed(events: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Without those of a bucket that are not among the `kept` steps which its run told last."""
    last = next((e["data"] for e in reversed(events) if isinstance(e["data"].get("kept"), list)), None)
    if last is None:
        return events
    folder, kept = last["uri"].rpartition("/")[0], last["kept"]
    return [e for e in events if e["data"]["uri"].rpartition("/")[0] != folder or e["data"]["step"] in kept]


def _checkpoint(event: Mapping[str, Any]) -> dict[str, Any]:
    data = event["data"]
    return {
        "step": data["step"],
        "uri": data["uri"],
        "created_at": event["time"],
        "bytes": data.get("bytes"),
        "attempt": event["attempt"],
        "kind": data.get("kind", "step"),
    }


def _existing(found: Sequence[dict[str, Any]], is_there: Callable[[Path], bool]) -> list[dict[str, Any]]:
    """Without the local ones that were deleted since, or are damaged; what can't be looked at is listed."""
    return [entry for entry in found if (path := local_path(entry["uri"])) is None or _looked_at(path, is_there)]


def _looked_at(path: Path, is_there: Callable[[Path], bool]) -> bool:
    try:
        return is_there(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def whole_record(folder: Path) -> dict[str, Any] | None:
    """A checkpoint's record, where the sizes of its files agree with it (contract trainer.md, 5); None where not.

    Raises `OSError`, as `FileNotFoundError` where the record or a file of it is not there.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_bytes())
        agree = all((folder / name).stat().st_size == size for name, (size, _) in record["files"].items())
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return record if agree else None


def _is_complete(folder: Path) -> bool:
    return whole_record(folder) is not None
