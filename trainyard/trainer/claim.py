"""Which run this is and what it is to do: its job folder, its attempt, its fence, its document."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from common.folder import FORMAT, JobFolder, Pair
from trainyard.trainer.failures import ConfigError, Fenced, RunEnded, first_line

#: Free disk that a checkpoint leaves, where the service said nothing.
SPARE_BYTES = 64 << 20

_PAUSES = (0.05, 0.2, 0.5)


@frozen
class Fence:
    """The oldest run that may still write; looked at before each event and before each rename of a checkpoint."""

    folder: JobFolder
    own: Pair

    def check(self) -> None:
        """Raises `Fenced` when a newer run took over, or the job's folder is gone."""
        present = self._present()
        if present is None:
            if not self.folder.path.is_dir():
                raise Fenced(f"the job folder {self.folder.path} is gone")
        elif present > self.own:
            raise Fenced(f"attempt {present} took over from {self.own}")

    def _present(self) -> Pair | None:
        """The fence; read again for a while when it can't be: a shared file system may be late."""
        for pause in (*_PAUSES, None):
            try:
                return self.folder.fence()
            except (OSError, ValueError) as e:
                if pause is None:
                    raise RunEnded(f"{self.folder.path / 'attempt'} can't be read: {first_line(e)}") from e
                time.sleep(pause)
        return None


@frozen
class Claim:
    """Which run this is, as its guard told it by the environment."""

    folder: JobFolder
    uid: str
    pair: Pair
    own: Path

    @classmethod
    def read(cls, jobdir: str, environ: Mapping[str, str] = os.environ) -> "Claim":
        """Raises `ConfigError` when the environment is not a guard's."""
        run, own = environ.get("TRAINYARD_RUN", ""), environ.get("TRAINYARD_ATTEMPT_DIR", "")
        uid, _, pair = run.partition(".")
        try:
            parsed = Pair.parse(pair)
        except ValueError as e:
            raise ConfigError(
                f"TRAINYARD_RUN must be <uid>.<n>.<restart>, got {run!r}; its guard sets it (docs/TRAINER.md)"
            ) from e
        if not Path(own).is_dir() or not own:
            raise ConfigError(f"TRAINYARD_ATTEMPT_DIR must be the folder that the guard made, got {own!r}")
        return cls(JobFolder(Path(jobdir).resolve()), uid, parsed, Path(own))


@frozen(kw_only=True)
class Spec:
    """spec.json: the resolved document and what the backend added to it."""

    uid: str
    job_id: str
    engine: str
    request: Mapping[str, Any]
    output: Path
    devices: tuple[str, ...]
    threads: int
    changes: tuple[Mapping[str, Any], ...]
    spare_bytes: int

    @classmethod
    def read(cls, claim: Claim) -> "Spec":
        """Raises `ConfigError` naming what is wrong with the file."""
        path = claim.folder.spec
        try:
            raw = json.loads(path.read_bytes())
            spec = cls(
                uid=raw["uid"],
                job_id=raw["job_id"],
                engine=raw["engine"],
                request=raw["request"],
                output=Path(raw["output"]),
                devices=tuple(str(d) for d in raw.get("devices") or ()),
                threads=_clipped(raw.get("threads") or 1),
                changes=tuple(raw.get("changes") or ()),
                spare_bytes=int((raw.get("options") or {}).get("spare_bytes", SPARE_BYTES)),
            )
        except (OSError, ValueError, TypeError, KeyError) as e:
            raise ConfigError(f"{path} can't be used: {type(e).__name__}: {e}") from e
        if raw.get("format") != FORMAT:
            raise ConfigError(f"{path} has format {raw.get('format')!r}; this trainer reads format {FORMAT}")
        if spec.uid != claim.uid:
            raise ConfigError(f"{path} is of job {spec.uid}, this run is of {claim.uid}")
        if not spec.output.is_absolute():
            raise ConfigError(f"{path}: output must be an absolute folder, got {str(spec.output)!r}")
        return spec


def _clipped(threads: int) -> int:
    return max(1, min(int(threads), len(os.sched_getaffinity(0))))
