"""The end of `train.log` for an event: short, of one run alone, and without its secrets."""

from backends.runs.run import Run, read_record
from schemas.values import MASK

_LINES = 50
_BYTES = 8 << 10
_LOOKED_AT = 64 << 10
_SHORTEST = {"values": 3, "env": 6}


def log_tail(run: Run) -> str | None:
    """At most 50 lines and 8 KiB of what a run wrote; None when that is nothing."""
    try:
        with run.folder.log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - _LOOKED_AT, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    _, marker, own = text.rpartition(f"── attempt {run.pair} ──")
    text = own.partition("\n")[2] if marker else text
    for secret in _secrets(run):
        text = text.replace(secret, MASK)
    lines = text.replace("\0", "").splitlines()[-_LINES:]
    return "\n".join(lines).encode()[-_BYTES:].decode(errors="ignore") or None


def _secrets(run: Run) -> list[str]:
    record = read_record(run.folder.secrets(run.pair.attempt)) or {}
    found = {
        value
        for part, shortest in _SHORTEST.items()
        for value in (record.get(part) or {}).values()
        if isinstance(value, str) and len(value) >= shortest
    }
    if isinstance(token := record.get("job_token"), str):
        found.add(token)
    return sorted(found, key=len, reverse=True)
