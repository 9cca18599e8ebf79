"""Which run this is and what it is to do: its job folder, its attempt, its fence, its document."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from common.folder import FORMAT, JobFolder, Pair
from common.storage import local_path
from trainyard.trainer.failures import ConfigError, Fenced, RunEnded, first_line

#: Free disk that a checkpoint leaves, where the service said nothing.
SPARE_BYTES = 64 << 20

#: In the environment of each process that our launcher started; the guard takes it from everybody else's.
LAUNCHED = "TRAINYARD_LAUNCHED"

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
    #: Which process of the run this is, of how many; `launched`: torch's launcher started it, for us.
    rank: int = 0
    size: int = 1
    launched: bool = False

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
        folder = JobFolder(Path(jobdir).resolve())
        if LAUNCHED not in environ:  # a RANK of somebody else's launcher says nothing about this run
            return cls(folder, uid, parsed, Path(own))
        return cls(folder, uid, parsed, Path(own), int(environ["RANK"]), int(environ["WORLD_SIZE"]), True)


@frozen(kw_only=True)
class Spec:
    """spec.json: the resolved document and what the backend added to it."""

    uid: str
    job_id: str
    engine: str
    request: Mapping[str, Any]
    #: Where this run writes; of a remote output it is a folder of the job's own, which is copied there.
    output: Path
    remote: str | None
    devices: tuple[str, ...]
    #: Of each process.
    threads: int
    changes: tuple[Mapping[str, Any], ...]
    #: What was changed before and is not repeated.
    recorded: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any]

    @property
    def spare_bytes(self) -> int:
        """Free disk that a checkpoint leaves."""
        return int(self.options.get("spare_bytes", SPARE_BYTES))

    def all_changes(self, taken: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """What the job was changed by, by step; `taken`: what this run repeated or took."""
        return sorted([*self.recorded, *taken], key=lambda entry: int(entry["step"]))

    def uri(self, path: Path) -> str:
        """What people are told of a file or folder of `output`: where it is, or is copied to."""
        return str(path) if self.remote is None else f"{self.remote}/{path.relative_to(self.output).as_posix()}"

    @property
    def nodes(self) -> int:
        """Machines of the run."""
        return int(self.options.get("nodes") or 1)

    @property
    def on_each(self) -> int:
        """Processes on each machine: one for each device; on the CPU as many as were asked for."""
        return len(self.devices) or int(self.options.get("processes") or 1)

    @property
    def processes(self) -> int:
        """All of the run."""
        return self.nodes * self.on_each

    @property
    def cache(self) -> Path:
        """Where downloads are kept for every job."""
        return Path(self.options.get("cache_dir") or "~/.cache/trainyard").expanduser()

    @classmethod
    def read(cls, claim: Claim) -> "Spec":
        """Raises `ConfigError` naming what is wrong with the file."""
        path = claim.folder.spec
        try:
            raw = json.loads(path.read_bytes())
            output = local_path(_text(raw, "output"))
            spec = cls(
                uid=raw["uid"],
                job_id=raw["job_id"],
                engine=raw["engine"],
                request=raw["request"],
                output=claim.folder.path / "output" if output is None else output,
                remote=raw["output"] if output is None else None,
                devices=tuple(str(d) for d in _given(raw.get("devices"))),
                threads=_clipped(raw.get("threads") or 1),
                changes=tuple(raw.get("changes") or ()),
                recorded=tuple(raw.get("recorded") or ()),
                options=raw.get("options") or {},
            )
            spec = evolve(spec, threads=max(1, spec.threads // spec.on_each))
        except (OSError, ValueError, TypeError, KeyError) as e:
            raise ConfigError(f"{path} can't be used: {type(e).__name__}: {e}") from e
        if raw.get("format") != FORMAT:
            raise ConfigError(f"{path} has format {raw.get('format')!r}; this trainer reads format {FORMAT}")
        if spec.uid != claim.uid:
            raise ConfigError(f"{path} is of job {spec.uid}, this run is of {claim.uid}")
        if not spec.output.is_absolute():
            raise ConfigError(f"{path}: output must be an absolute folder, got {str(spec.output)!r}")
        return spec


def _text(raw: Mapping[str, Any], key: str) -> str:
    if not isinstance(raw[key], str):
        raise TypeError(f"{key} must be a string, got {raw[key]!r}")
    return str(raw[key])


def _given(devices: Sequence[str] | None) -> Sequence[str]:
    """Of a run whose devices a scheduler chooses, those that it chose on this machine."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [d for d in chosen.split(",") if d] if devices is None else devices


def _clipped(threads: int) -> int:
    return max(1, min(int(threads), len(os.sched_getaffinity(0))))
