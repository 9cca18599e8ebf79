"""Ask a running job for a checkpoint now."""

from common.backend import Checkpoint
from common.clock import new_id
from common.errors import Conflict, NotSupported
from common.job import Status
from service.parts import Parts
from service.store.base import Scope


async def checkpoint(parts: Parts, job_id: str, scope: Scope) -> str:
    """The command's id; the checkpoint itself is told as `job.checkpoint`.

    Raises `NotFound`, `Conflict` for a job that does not run, `NotSupported` where its backend can't.
    """
    record = await parts.store.job(job_id, scope)
    if record.job.status is not Status.RUNNING:
        raise Conflict(f"job {job_id!r} is {record.job.status}; only a running job can write a checkpoint")
    if "checkpoint_now" not in parts.registry.get(record.job.backend).capabilities:
        raise NotSupported(f"backend {record.job.backend!r} takes no wish for a checkpoint")
    command = Checkpoint(id=new_id())
    await parts.watch.orders.send(record.job.uid, command)
    return command.id
