"""Which checkpoint a job begins with: its own newest one, or one of an earlier job that it was told to go on from."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from schemas.diffusion import Options
from trainyard.trainer.checkpoints import RECORD, Checkpoint, damage, read_json
from trainyard.trainer.diffusion.keep import plain
from trainyard.trainer.failures import ConfigError

_AT = "extra_parameters.resume_from_checkpoint"
#: As we name a checkpoint, and as SimpleTuner does.
_NAME = re.compile(r"(?:step|checkpoint)-(\d+)")
#: What must be the same where a job begins with the checkpoint of another.
_OF_A_KIND = (
    *("model_family", "model_flavour", "pretrained_model_name_or_path"),
    *("model_type", "lora_type", "lora_rank", "lora_alpha", "use_dora", "lycoris_config"),
    *("peft_lora_target_modules", "flux_lora_target", "mixed_precision", "optimizer", "use_ema"),
)


def begun_with(options: Options, output: Path, since: float, say: Callable[[str], None]) -> Checkpoint | None:
    """The checkpoint that a job without one of its own begins with; None: it begins anew.

    A path is that of a checkpoint. A name, and `latest`, are looked for in `resume_from_folder`, which holds the
    `output` of this job and those of earlier ones, or is one: `latest` is the one that was written last, of a kind with
    this training, and of a name too the last. What came after `since` (seconds since 1970), when this run began, does
    not count: every process must find the same. Raises `ConfigError` where what was asked for is not there.
    """
    asked = options.resume_from_checkpoint
    if asked in ("", "latest"):
        return _latest(options, output, since, say) if asked else None
    if Path(asked).is_absolute():
        if (problem := damage(Path(asked))) is not None:
            raise ConfigError(f"{_AT}: {asked} is no whole checkpoint: {problem}")
        return _of_a_kind(options, _read(Path(asked)))
    found = [path for path in _earlier(options, output, since) if path.name == _ours(asked)]
    for path in found:
        if damage(path) is None:
            say(f"begins with {path}, which resume_from_checkpoint {asked} names")
            return _of_a_kind(options, _read(path))
    raise ConfigError(f"{_AT}: {_unknown(options, output, asked, found)}")


def problem_of(options: Options) -> str | None:
    """What is wrong with a checkpoint that is named by its path, as far as sizes tell."""
    asked = options.resume_from_checkpoint
    if not Path(asked).is_absolute() or (problem := damage(Path(asked), sums=False)) is None:
        return None
    return f"{_AT}: {asked} is no whole checkpoint: {problem}"


def _latest(options: Options, output: Path, since: float, say: Callable[[str], None]) -> Checkpoint | None:
    if options.resume_from_folder and _folder(options) is None:
        say(f"resume_from_checkpoint latest: {options.resume_from_folder} is not on this machine; it begins anew")
    for path in _earlier(options, output, since):
        if (problem := damage(path)) is not None:
            say(f"{path} is passed over: {problem}")
            continue
        found = _read(path)
        if other := _differing(options, found):
            say(f"{path} is passed over: it is of another kind of training: {other}")
            continue
        if options.max_train_steps and found.step >= options.max_train_steps:
            say(f"{path} is passed over: it has all {options.max_train_steps} steps of this job already")
            continue
        say(f"begins with {path}, the latest checkpoint in {options.resume_from_folder}")
        return found
    return None


def _earlier(options: Options, output: Path, since: float) -> list[Path]:
    """The checkpoints of earlier jobs, the last written one first."""
    folder = _folder(options)
    if folder is None:
        return []
    found: list[tuple[float, Path]] = []
    for path in _steps(folder, output):
        with suppress(FileNotFoundError):  # a job at work removes its oldest
            if (written := path.stat().st_mtime) <= since:
                found.append((written, path.parent))
    return [path for _, path in sorted(found, reverse=True)]


def _steps(folder: Path, output: Path) -> Iterator[Path]:
    """Records of checkpoints in a folder of outputs, or in an output, but for those of this job."""
    for pattern in (f"*/checkpoints/step-*/{RECORD}", f"checkpoints/step-*/{RECORD}"):
        for path in folder.glob(pattern):
            if _NAME.fullmatch(path.parent.name) and path.parents[2].resolve() != output.resolve():
                yield path


def _folder(options: Options) -> Path | None:
    place = options.resume_from_folder
    return Path(place.removeprefix("file://")) if place and "://" not in place.removeprefix("file://") else None


def _unknown(options: Options, output: Path, asked: str, found: list[Path]) -> str:
    """What to say of a name that leads to no whole checkpoint."""
    if found:
        return f"{found[0]} is no whole checkpoint: {damage(found[0])}"
    if _folder(options) is None:
        place = options.resume_from_folder
        why = f"{place} is not on this machine" if place else "no folder of earlier jobs is known"
        return f"{asked} is no whole checkpoint: {why}; its path, or resume_from_folder, would be right"
    there = ", ".join(sorted({path.name for path in _earlier(options, output, float("inf"))})) or "none"
    return f"{asked} is no whole checkpoint in {options.resume_from_folder}; there are {there}"


def _ours(name: str) -> str:
    named = _NAME.fullmatch(name)
    return f"step-{int(named[1])}" if named else name


def _read(path: Path) -> Checkpoint:
    return Checkpoint(path, read_json(path / RECORD) or {})


def _differing(options: Options, found: Checkpoint) -> str:
    """What is of another kind, in words; empty: nothing."""
    before, here = found.record.get("settings", {}), plain(options)
    other = [name for name in _OF_A_KIND if before.get(name) != here[name]]
    return ", ".join(f"{name} {before.get(name)!r}, here {here[name]!r}" for name in other)


def _of_a_kind(options: Options, found: Checkpoint) -> Checkpoint:
    if told := _differing(options, found):
        raise ConfigError(f"{_AT}: {found.path} is of another kind of training: {told}")
    return found
