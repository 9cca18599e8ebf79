"""Say what a document would do, data and model included, and keep nothing."""

from typing import Any

from schemas.values import FieldWarning
from service.operations.accept import Accepted
from service.parts import Parts
from service.preflight import Examined

EXAMINED = ("data", "model", "memory", "steps")


async def examine(parts: Parts, accepted: Accepted) -> tuple[dict[str, Any], list[FieldWarning]]:
    """What the trainer found, and its warnings. Raises `InvalidRequest`, `RateLimited`, `Unavailable`."""
    asked = Examined(
        job_id=accepted.request.job_id,
        backend=accepted.backend,
        spec=accepted.spec,
        secrets=dict(accepted.secrets),
    )
    found = await parts.preflights.examine(asked)
    warnings = [FieldWarning(said["path"] or "$", said["message"]) for said in found.get("warnings", ())]
    return {name: found[name] for name in EXAMINED}, warnings
