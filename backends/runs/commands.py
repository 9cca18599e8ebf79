"""What a run is told: a line of `control.jsonl` for each command (contract trainer.md, 3)."""

from backends.runs.run import claimed
from common.backend import Change, Checkpoint, Command, Handle, Stop
from common.folder import JobFolder, Pair


def record_of(command: Command) -> dict[str, object] | None:
    """The line of a command; None for one that a run does not read from there."""
    match command:
        case Checkpoint():
            return {"id": command.id, "command": "checkpoint"}
        case Stop():
            return {"id": command.id, "command": "stop", "why": command.why}
        case Change():
            return {"id": command.id, "command": "change", "values": dict(command.values)}
    return None


def tell(folder: JobFolder, handle: Handle, record: dict[str, object]) -> None:
    """Append a line for the newest run of the handle's attempt; calm where the job's folder is gone."""
    run = claimed(folder, handle.uid, handle.attempt)
    if folder.path.is_dir():
        folder.command(run.pair if run else Pair(handle.attempt), record)
