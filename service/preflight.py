"""Deep validation: a short trainer process that examines a document's data and model. Nothing of it is stored."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import structlog
from attrs import frozen

from common.backend import JobSpec
from common.clock import new_id
from common.environment import clean_environment
from common.errors import InvalidRequest, RateLimited, StorageFull, TrainyardError, Unavailable
from common.folder import FORMAT, spec_document
from common.job import Job
from common.settings import Settings
from schemas.values import FieldError
from service.handover import secrets_for_run
from service.masker import Masker

log = structlog.get_logger(__name__)

PROGRAM = (sys.executable, "-P", "-m", "trainyard.trainer.preflight")
#: The engines whose documents can be examined: the packages that it takes, and the extra that has them.
_NEEDS = {
    "text": (("torch", "transformers"), "train"),
    "diffusion": (("torch", "transformers", "diffusers", "PIL"), "diffusion"),
}
_RETRY_SECONDS = 10.0
_TAIL = 2000


@frozen(kw_only=True)
class Examined:
    """What a document is to be examined for: its spec, and its secrets by their paths."""

    job_id: str
    backend: str
    spec: JobSpec
    secrets: dict[str, str]


class Preflights:
    """A few at once. Each is killed with all its processes at its time limit, and when nobody waits any more."""

    def __init__(self, settings: Settings, program: tuple[str, ...] = PROGRAM) -> None:
        self._settings = settings
        self._program = program
        self._running: set[asyncio.subprocess.Process] = set()
        self._taken = 0

    async def examine(self, asked: Examined) -> dict[str, Any]:
        """What the trainer says: `data`, `model`, `memory`, `steps`, `warnings`.

        Raises `InvalidRequest` with what is wrong, `RateLimited` when too many are under way, `Unavailable` when it
        took too long. To be cancelled is to end the process.
        """
        _check_can_be_examined(asked)
        limit = self._settings.preflights
        if self._taken >= limit:
            raise RateLimited(
                f"{limit} deep validations are under way, which is the limit (TRAINYARD_PREFLIGHTS); try again",
                retry_after=_RETRY_SECONDS,
            )
        self._taken += 1
        try:
            return await self._examine(asked)
        finally:
            self._taken -= 1

    def close(self) -> None:
        """End what is under way."""
        for process in self._running:
            _kill(process)

    async def _examine(self, asked: Examined) -> dict[str, Any]:
        masker = Masker(asked.secrets.values())
        with tempfile.TemporaryDirectory(prefix="trainyard-preflight-") as folder:
            code, answer, said = await self._run(asked, folder)
        tail = masker.text(said[-_TAIL:].decode(errors="replace"))
        try:
            found = masker.value(json.loads(answer))
        except ValueError as e:
            log.warning("a deep validation ended without an answer", code=code, stderr=tail)
            how = f"was ended by signal {-code}" if code < 0 else f"left with {code} and no answer"
            raise Unavailable(f"the deep validation {how}; the service's log says more", _RETRY_SECONDS) from e
        assert isinstance(found, dict)
        if not found.get("ok"):
            log.debug("a deep validation found errors", reason=found.get("reason"), stderr=tail)
            raise _refusal(found)
        return found

    async def _run(self, asked: Examined, folder: str) -> tuple[int, bytes, bytes]:
        secrets = secrets_for_run(asked.secrets)
        job = Job(uid=new_id(), job_id=asked.job_id, backend=asked.backend)
        document = {"format": FORMAT, "spec": spec_document(job, asked.spec), "secrets": secrets}
        own = {"TMPDIR": folder, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(asked.spec.threads)}
        process = await asyncio.create_subprocess_exec(
            *self._program,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=folder,
            env=clean_environment(os.environ) | dict(secrets["env"]) | own,
            start_new_session=True,
        )
        self._running.add(process)
        seconds = self._settings.preflight_seconds
        try:
            async with asyncio.timeout(seconds):
                answer, said = await process.communicate(json.dumps(document).encode())
        except TimeoutError as e:
            raise Unavailable(
                f"the deep validation took more than {seconds:g} s (TRAINYARD_PREFLIGHT_SECONDS) and was ended; a job "
                "has no such limit: POST /train takes the document",
                retry_after=60,
            ) from e
        finally:
            _kill(process)
            await asyncio.shield(process.wait())
            self._running.discard(process)
        assert process.returncode is not None
        return process.returncode, answer, said


def _check_can_be_examined(asked: Examined) -> None:
    if asked.spec.engine not in _NEEDS:
        message = f"backend {asked.backend!r} trains nothing that could be examined; leave deep out"
        raise InvalidRequest([FieldError("deep", message)])
    packages, extra = _NEEDS[asked.spec.engine]
    lacking = ", ".join(name for name in packages if find_spec(name) is None)
    if lacking:
        message = f"needs {lacking}, which is not installed here: pip install 'trainyard[{extra}]' would do"
        raise InvalidRequest([FieldError("deep", message)])


def _refusal(found: dict[str, Any]) -> TrainyardError:
    errors = [FieldError(error["path"] or "$", error["message"]) for error in found["errors"]]
    if found["reason"] == "disk_full":
        return StorageFull(errors[0].message)
    if found["reason"] == "internal":
        return TrainyardError(f"a fault of the trainer: {errors[0].message}")
    return InvalidRequest(errors)


def _kill(process: asyncio.subprocess.Process) -> None:
    """The process and all that it started: it leads a process group of its own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
