"""`python -m trainyard.trainer.preflight`: what a job would do, without a job.

stdin: one JSON object, `{"format": 1, "spec": {…}, "secrets": {…} or null}`; `spec` is what spec.json would say of the
job, `secrets` what `secrets.<n>` would. stdout: one JSON object in one line, `{"ok": true, "data", "model", "memory",
"steps", "warnings": [{"path", "message"}]}` or `{"ok": false, "reason", "errors": [{"path", "message"}]}`; the exit
code is that of a run which ended so. Everything else goes to stderr, masked. Nothing is trained, no weights are loaded,
nothing is written but what is downloaded into the caches. SIGTERM ends it at once.
"""

import ctypes
import json
import logging
import os
import select
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attrs import evolve, frozen

from common.exits import Exit
from common.folder import FORMAT
from schemas.uri import mask_urls
from trainyard.trainer.failures import ConfigError, RunEnded, exit_of, explained, first_line, placed
from trainyard.trainer.secrets import Secrets, start_log
from trainyard.trainer.sources.limits import Limits

_PR_SET_PDEATHSIG = 1
log = logging.getLogger("trainyard.trainer")


@frozen
class Asked:
    """What came on stdin."""

    spec: Mapping[str, Any]
    secrets: Secrets

    @classmethod
    def read(cls, text: bytes) -> "Asked":
        """Raises `ConfigError` for anything but such a document."""
        try:
            raw = json.loads(text)
            spec, secrets = raw["spec"], Secrets.of(raw.get("secrets") or {})
            if raw.get("format") != FORMAT or not isinstance(spec["request"], dict):
                raise ValueError(f"format {raw.get('format')!r}; this trainer reads format {FORMAT}")
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ConfigError(
                f"stdin must be one JSON object with format, spec and secrets, got {type(e).__name__}: {e}"
            ) from e
        return cls(spec, secrets)

    @property
    def request(self) -> Mapping[str, Any]:
        """The document."""
        found: Mapping[str, Any] = self.spec["request"]
        return found

    @property
    def gpus(self) -> int:
        """Devices that the job would have; none were given to it yet."""
        return len(self.spec.get("devices") or ()) or int((self.request.get("resources") or {}).get("gpus") or 0)

    @property
    def processes(self) -> int:
        """As `Spec.processes` counts them."""
        options = self.spec.get("options") or {}
        return int(options.get("nodes") or 1) * (self.gpus or int(options.get("processes") or 1))

    @property
    def cache(self) -> Path:
        """Where downloads are kept for every job."""
        options = self.spec.get("options") or {}
        return Path(options.get("cache_dir") or "~/.cache/trainyard").expanduser()

    @property
    def limits(self) -> Limits:
        """What may be downloaded."""
        return evolve(Limits.of(self.spec.get("options") or {}), patient=False)


def main(argv: list[str]) -> int:
    """Examine the job of the document on stdin; the exit code, after the answer was written."""
    if argv:
        sys.stderr.write("usage: python -m trainyard.trainer.preflight < DOCUMENT\n")
        return Exit.CONFIG
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print is not the answer
    secrets = Secrets()
    start_log(secrets)
    try:
        asked = Asked.read(sys.stdin.buffer.read())
        secrets = asked.secrets
        start_log(secrets)
        _prepare_environment(asked)
        found, code = examined(asked)
    except Exception as e:
        found, code = _refusal(e)
    _write(answer, secrets.mask(json.dumps(found, ensure_ascii=False)))
    return code


def examined(asked: Asked) -> tuple[dict[str, Any], Exit]:
    """The answer, and how a run of this document would end if it ended for what was found."""
    try:
        with tempfile.TemporaryDirectory(prefix="trainyard-preflight-") as folder:
            return {"ok": True, **_found(asked, Path(folder))}, Exit.DONE
    except Exception as e:
        return _refusal(e, _datasets(asked.request))


def _found(asked: Asked, folder: Path) -> dict[str, Any]:
    """What the job's engine says of it."""
    if asked.spec.get("engine") == "diffusion":
        from trainyard.trainer.diffusion.preflight import examine

        return examine(asked, folder)
    from trainyard.trainer.text.preflight.survey import survey

    return survey(asked, folder)


def _datasets(request: Mapping[str, Any]) -> dict[str, str]:
    """The field of each data set by what messages call it; a longer name is looked for before its beginning."""
    found = {
        mask_urls(str(dataset["source"])): f"datasets[{n}].source"
        for n, dataset in enumerate(request.get("datasets") or ())
    }
    return dict(sorted(found.items(), key=lambda one: -len(one[0])))


def _prepare_environment(asked: Asked) -> None:
    """What libraries read when they are imported."""
    threads = min(int(asked.spec.get("threads") or 1), len(os.sched_getaffinity(0)))
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads)))
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="true")


def _refusal(error: Exception, datasets: Mapping[str, str] = MappingProxyType({})) -> tuple[dict[str, Any], Exit]:
    ended = error if isinstance(error, RunEnded) else explained(error)
    if ended is None:
        log.error("a fault of ours", exc_info=error)
        ended = RunEnded(f"{type(error).__name__}: {first_line(error)}")
    elif ended is not error:
        log.error("the cause", exc_info=error)
    code = exit_of(ended)
    problems = ended.problems if isinstance(ended, ConfigError) else (str(ended),)
    errors = [placed(problem) for problem in problems]
    for told in errors:
        named = (field for name, field in datasets.items() if name in told["message"])
        told["path"] = told["path"] or next(named, "")
    return {"ok": False, "reason": code.name.lower(), "errors": errors}, code


def _write(descriptor: int, line: str) -> None:
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(line + "\n")


def _end_with_parent() -> None:
    """Where the service is killed nobody waits for the answer any more; one killed before this reads it no more."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    reader = select.poll()
    reader.register(1, 0)
    if reader.poll(0):
        sys.exit("the reader of the answer is gone")


if __name__ == "__main__":
    _end_with_parent()
    sys.exit(main(sys.argv[1:]))
