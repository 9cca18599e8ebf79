"""A database filled by the store's own functions, many jobs a transaction: what a service has after some months."""

import json
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import evolve

from backends.simulated.backend import SimulatedBackend
from benchmarks.document import PLACE, job_id, played
from benchmarks.frames import progress
from common.backend import BackendContext
from common.clock import Clock, new_id
from common.devices import Device, DevicePool
from common.event import Body, JobRunning, JobSubmitted, JobSucceeded
from common.secret import SecretBox, load_key
from common.settings import Settings
from schemas.converter import structure
from schemas.secrets import seal
from schemas.train import TrainRequest
from service.operations.submit import hooks
from service.specs import write_spec
from service.store import jobs
from service.store.base import Changes, NewJob
from service.store.sqlite import connect, migrate

_A_TRANSACTION = 500


def fill(data_dir: Path, *, finished: int, queued: int = 0, events: int = 4) -> None:
    """Write `finished` jobs of so many events each (at least 4), then `queued` ones that ask for devices."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / "trainyard.db"
    migrate(path)
    how = jobs.Appending(clock=Clock(), box=SecretBox(load_key(data_dir, None)), event_bytes=65536)
    steps = max(events - 4, 0)
    ran: list[Body] = [JobSubmitted(backend="simulated", backend_job_id="sim-1"), JobRunning()]
    ran += [progress(step, steps) for step in range(1, steps + 1)]
    ran.append(JobSucceeded(step=steps))
    template = _template()
    connection = connect(path)
    connection.execute("PRAGMA synchronous = OFF")
    try:
        for first in range(0, finished + queued, _A_TRANSACTION):
            _tell(first, finished + queued)
            with _transaction(connection):
                for number in range(first, min(first + _A_TRANSACTION, finished + queued)):
                    new = _job(template, number)
                    jobs.add(connection, [], new, how)
                    if number < finished:
                        _append(connection, new.uid, ran, how)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        connection.close()
    sys.stderr.write("\r\033[K")


def _append(connection: sqlite3.Connection, uid: str, bodies: Sequence[Body], how: jobs.Appending) -> None:
    jobs.append(connection, [], uid, bodies, attempt=None, cursor=None, changes=Changes(), if_version=None, how=how)


def _template() -> NewJob:
    """The job that all others are copies of, made as `POST /train` makes it."""
    document = played(seconds=3600)
    request = structure(document, TrainRequest).value
    assert request is not None
    devices = DevicePool(Device(str(n), "pretend") for n in range(request.resources.gpus))
    spec = SimulatedBackend(BackendContext(settings=Settings(), clock=Clock(), devices=devices)).build_job_spec(request)
    sealed = seal(document)
    return NewJob(
        uid="",
        job_id="",
        backend="simulated",
        priority=0,
        lane=f"simulated/{spec.lane}",
        labels={},
        document=json.dumps(sealed.document),
        spec=write_spec(spec),
        warnings="[]",
        hooks=hooks(request),
        secrets=sealed.values,
    )


def _job(template: NewJob, number: int) -> NewJob:
    name = job_id(number)
    return evolve(
        template,
        uid=new_id(),
        job_id=name,
        document=template.document.replace(PLACE, name),
        spec=template.spec.replace(PLACE, name),
    )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.execute("COMMIT")


def _tell(done: int, of: int) -> None:
    sys.stderr.write(f"\r\033[Kfilling: {done:,} of {of:,} jobs")
    sys.stderr.flush()
