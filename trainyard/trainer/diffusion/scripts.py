"""Programs of the caller's own: an argument list with placeholders, never a shell; how each ended is told."""

import re
import shlex
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from attrs import fields, frozen

from schemas.diffusion import Options
from schemas.diffusion.rules import SCRIPTS
from trainyard.trainer.diffusion.background import Background, Child
from trainyard.trainer.failures import ConfigError
from trainyard.trainer.run import Run

#: A script that takes longer is ended.
LIMIT_SECONDS = 3600.0
#: What scripts in the background get at the end of a good run before they are ended.
GRACE_SECONDS = 60.0
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_OF_OPTIONS = ("tracker_run_name", "tracker_project_name", "model_family", "model_type", "lora_type")
_OF_THE_MOMENT = ("local_checkpoint_path", "global_step", "huggingface_path", "remote_checkpoint_path")


@frozen
class Script:
    """The arguments of one option, split as a shell would, with placeholders like `{global_step}` still in them."""

    option: str
    arguments: tuple[str, ...]

    @classmethod
    def of(cls, option: str, template: str, known: Collection[str]) -> "Script":
        """Raises `ConfigError` for quotes that don't match, a placeholder that is not `known`, no such program."""
        at = f"extra_parameters.{option}"
        try:
            arguments = shlex.split(template)
        except ValueError as e:
            raise ConfigError(f"{at}: can't be split into arguments: {e}: {template!r}") from e
        if not arguments:
            raise ConfigError(f"{at}: names no program: {template!r}")
        names = [name for argument in arguments for name in _PLACEHOLDER.findall(argument)]
        if strange := [name for name in names if name not in known]:
            raise ConfigError(f"{at}: {{{strange[0]}}} is no placeholder; there are {', '.join(sorted(known))}")
        program = arguments[0]
        if not _PLACEHOLDER.search(program):
            if "/" in program and not Path(program).is_absolute():
                raise ConfigError(f"{at}: {program!r}: an absolute path, or a name on PATH, would be right")
            if shutil.which(program) is None:
                raise ConfigError(f"{at}: {program!r} is no program that can be started")
        return cls(option, tuple(arguments))

    def filled(self, values: Mapping[str, str]) -> list[str]:
        """The arguments, each still one, with every placeholder's value; one without a value is empty."""
        return [_PLACEHOLDER.sub(lambda found: values[found.group(1)], argument) for argument in self.arguments]

    def run(self, values: Mapping[str, str], run: Run, limit_seconds: float = LIMIT_SECONDS) -> Child:
        """Start it beside the training. Its output goes where the trainer's goes, to the job's log."""
        return Child.started(self.option, self.filled(values), run, limit_seconds)


def found_scripts(options: Options) -> dict[str, Script]:
    """The scripts of the options. Raises `ConfigError` with everything that is wrong with them."""
    problems: list[str] = []
    found: dict[str, Script] = {}
    for name in SCRIPTS:
        template = getattr(options, name)
        try:
            if template:
                found[name] = Script.of(name, template, known(options))
        except ConfigError as e:
            problems += e.problems
    if options.validation_method == "external-script" and not options.validation_external_script:
        problems.append("extra_parameters.validation_external_script: validation_method external-script needs one")
    if problems:
        raise ConfigError(*problems)
    return found


class Scripts:
    """Those of a job: after a checkpoint, after an upload, and in place of our own validation."""

    def __init__(
        self, options: Options, run: Run, limit_seconds: float = LIMIT_SECONDS, grace_seconds: float = GRACE_SECONDS
    ) -> None:
        """Raises `ConfigError` with everything that is wrong with the scripts of the options."""
        self._options, self._run, self._limit, self._grace = options, run, limit_seconds, grace_seconds
        found = found_scripts(options)
        self._found = found if run.claim.rank == 0 else {}
        self._background = Background(run)

    def checkpoint(self, path: Path, step: int) -> None:
        """A checkpoint stands: start `post_checkpoint_script` in the background."""
        if script := self._found.get("post_checkpoint_script"):
            self._start(script, path, step)

    def uploaded(self, path: Path | None, step: int, remote: str) -> None:
        """The result is at a remote place (empty: nothing is uploaded): start `post_upload_script`."""
        if script := self._found.get("post_upload_script"):
            self._start(script, path, step, remote)

    def validate(self, path: Path | None, step: int) -> str:
        """Run `validation_external_script`; what came of it in words.

        Without a checkpoint it is skipped. It is waited for unless it is to run in the background; raises `Stopped`.
        """
        script = self._found["validation_external_script"]
        if path is None:
            message = f"{script.option}: skipped at step {step}: there is no checkpoint yet"
            self._run.report.log(message, script=script.option, status="skipped")
            return message
        child = self._start(script, path, step)
        if child is None:
            return f"{script.option} could not be started at step {step}"
        if self._options.validation_external_background:
            return f"{script.option} was started at step {step}"
        self._background.wait(child)
        return f"{script.option} ended with {child.code} at step {step}"

    def look(self) -> None:
        """Tell those that ended meanwhile, and end those over their time; returns at once."""
        self._background.look()

    def close(self) -> None:
        """The run ended well: what still runs has the grace to come to its own end, then it is ended."""
        self._background.close(self._grace)

    def end(self) -> None:
        """The run was stopped or failed: what still runs is ended."""
        self._background.close(0.0)

    def _start(self, script: Script, path: Path | None, step: int, remote: str = "") -> Child | None:
        try:
            child = script.run(values(self._options, path, step, remote), self._run, self._limit)
        except (OSError, ValueError) as e:  # gone since it was looked at, or an argument with a NUL
            self._run.report.log(
                f"{script.option} could not be started at step {step}: {e}", level="warning", script=script.option
            )
            return None
        self._background.add(child)
        return child


def known(options: Options) -> frozenset[str]:
    """The names that a placeholder may have."""
    return frozenset({*_OF_OPTIONS, *_OF_THE_MOMENT, *_validation(options)})


def values(options: Options, path: Path | None, step: int, remote: str = "") -> dict[str, str]:
    """A value for every name; empty where there is none."""
    found: dict[str, object] = {name: getattr(options, name) for name in (*_OF_OPTIONS, *_validation(options))}
    found |= {"local_checkpoint_path": path, "global_step": step, "remote_checkpoint_path": remote}
    return {name: _text(value) for name, value in (found | {"huggingface_path": None}).items()}


def _validation(options: Options) -> list[str]:
    return [a.name for a in fields(type(options)) if a.name.startswith("validation_")]


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
