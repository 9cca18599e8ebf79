"""The token that a run posts its events with, and where to: good for one job, one attempt and one URL."""

import hmac
import secrets
from collections.abc import Mapping

from common.backend import BaseTrainerBackend, JobSpec
from common.job import Job
from common.settings import Settings
from service.store.base import Changes, Store

#: How a token's name begins among a job's secrets: no path of a document can, JSON with a NUL is refused.
TOKEN = "\0job_token."  # noqa: S105 a name, not a token
_ANY = frozenset({"", "0.0.0.0", "::", "localhost"})  # noqa: S104 compared, not bound


def first_token(spec: JobSpec) -> dict[str, str]:
    """What is stored with the secrets of a new job, so that its first attempt need not be given one."""
    return {f"{TOKEN}1": _made()} if spec.engine == "command" else {}


async def reporting(store: Store, job: Job, base: str | None, known: Mapping[str, str]) -> dict[str, str | None]:
    """What `secrets.<n>` says of it: the same token again where the attempt has one among the `known` secrets.

    It is kept with the job's secrets, sealed, so that it is masked wherever they are.
    """
    name = f"{TOKEN}{job.attempt}"
    token = known.get(name)
    if token is None:
        token = _made()
        await store.append(job.uid, [], changes=Changes(secrets={name: token}), urgent=True)
    url = None if base is None else f"{base}/train/{job.job_id}/attempts/{job.attempt}/events"
    return {"job_token": token, "events_url": url}


async def is_token(store: Store, uid: str, attempt: int, given: str) -> bool:
    """Whether it is the token of this attempt of this job."""
    known = (await store.secrets(uid)).get(f"{TOKEN}{attempt}")
    return known is not None and hmac.compare_digest(given.encode("utf-8", "surrogateescape"), known.encode())


def base_url(settings: Settings, backend: BaseTrainerBackend) -> str | None:
    """Where a backend's runs reach this service; None where nobody has said it."""
    if not backend.on_this_machine:
        return settings.public_url
    host = "127.0.0.1" if settings.host in _ANY else settings.host
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _made() -> str:
    return secrets.token_urlsafe(32)
