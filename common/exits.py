"""Exit codes of a run and what each means (contract trainer.md, 4)."""

from enum import IntEnum

from common.job import Reason


class Exit(IntEnum):
    """What a run says with its exit status."""

    DONE = 0
    CONFIG = 64
    DATA = 65
    MODEL = 66
    CREDENTIALS = 69
    INTERNAL = 70
    OUT_OF_MEMORY = 71
    NAN_LOSS = 72
    DISK_FULL = 74
    STOPPED_SAVED = 75
    STOPPED_UNSAVED = 76
    FENCED = 77


REASONS: dict[int, Reason] = {
    Exit.CONFIG: Reason.CONFIG,
    Exit.DATA: Reason.DATA,
    Exit.MODEL: Reason.MODEL,
    Exit.CREDENTIALS: Reason.CREDENTIALS,
    Exit.INTERNAL: Reason.INTERNAL,
    Exit.OUT_OF_MEMORY: Reason.OUT_OF_MEMORY,
    Exit.NAN_LOSS: Reason.NAN_LOSS,
    Exit.DISK_FULL: Reason.DISK_FULL,
}

EXPLANATIONS: dict[int, str] = {
    Exit.CONFIG: "the configuration can't be run",
    Exit.DATA: "the data can't be used",
    Exit.MODEL: "the model or a file is missing",
    Exit.CREDENTIALS: "a source or its credentials were refused",
    Exit.INTERNAL: "a fault of ours; the log has the traceback",
    Exit.OUT_OF_MEMORY: "out of memory",
    Exit.NAN_LOSS: "the loss became NaN or infinite",
    Exit.DISK_FULL: "no disk space",
    Exit.STOPPED_SAVED: "stopped by nobody of ours, after a checkpoint",
    Exit.STOPPED_UNSAVED: "stopped by nobody of ours, without a checkpoint",
    Exit.FENCED: "another run took its place",
}
