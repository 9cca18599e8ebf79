"""What can be known about a diffusion job before its model is loaded; then the loop."""

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from schemas.diffusion import Options
from schemas.diffusion.dataloader import Entry
from trainyard.trainer.checkpoints import RECORD, Checkpoint, Checkpoints, damage, read_json
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.cache import places
from trainyard.trainer.diffusion.data import survey
from trainyard.trainer.diffusion.options import check_prediction, read_dataloader, read_options
from trainyard.trainer.diffusion.scripts import Scripts
from trainyard.trainer.diffusion.validation.plan import Plan
from trainyard.trainer.failures import ConfigError, ModelError, OutOfMemory, RunEnded, explained, first_line
from trainyard.trainer.imports import quickly
from trainyard.trainer.looking import Looking
from trainyard.trainer.run import Result, Run
from trainyard.trainer.sources.output import copied

if TYPE_CHECKING:
    from trainyard.trainer.diffusion.families.family import Family
    from trainyard.trainer.diffusion.job import Job
    from trainyard.trainer.diffusion.weights import Weights

_LOOP = "trainyard.trainer.diffusion.train"
_LESS_MEMORY = (
    "a smaller train_batch_size (with more gradient_accumulation_steps) or resolution, gradient_checkpointing, "
    "base_model_precision int8-quanto, and model_type lora need less"
)
#: What must be the same where a job begins with the checkpoint of another.
_OF_A_KIND = (
    *("model_family", "model_type", "lora_type", "lora_rank", "use_dora", "lycoris_config"),
    *("peft_lora_target_modules", "flux_lora_target", "mixed_precision", "optimizer", "use_ema"),
)
#: What accelerate and transformers import where it is installed; diffusers has samplers that need scipy.
_UNUSED = ("boto3",)
_SEED_BITS = 0x7FFFFFFF


def start(run: Run) -> Result:
    """Look at the document, the output folder, the data and the model's files; load nothing before they are good."""
    options = read_options(run.spec.request, run.spec.processes)
    if options.seed is None:  # the same in every process and after every restart, another for every job
        options = evolve(options, seed=int(run.spec.uid[:8], 16) & _SEED_BITS)
    plan = Plan.of(options)
    run.control.answer_validations(plan.why_not)
    entries = read_dataloader(run.spec.request, options)
    scripts = Scripts(options, run)
    checkpoints = Checkpoints(run.spec.output, run.spec.uid, run.claim.pair, run.fence.check, run.spec.spare_bytes)
    checkpoints.claim()
    try:
        with copied(run, checkpoints) as kept:
            result = _trained(run, options, entries, plan, scripts, kept)
            if run.spec.remote:  # what scripts read here goes away with the output
                scripts.close()
        final = run.spec.output / "final"
        scripts.uploaded(
            None if run.spec.remote else final, result.step, run.spec.uri(final) if run.spec.remote else ""
        )
        scripts.close()
    finally:
        scripts.end()
    return result


def _trained(
    run: Run, options: Options, entries: tuple[Entry, ...], plan: Plan, scripts: Scripts, checkpoints: Checkpoints
) -> Result:
    looking = Looking(run, checkpoints)
    try:
        with run.control.interruptible(), quickly(*_UNUSED):
            family = families.find(options.model_family)
        job = _job(run, options, entries, family, plan, scripts, checkpoints)
        with run.control.interruptible(), quickly(*_UNUSED):
            train: Callable[..., Result] = import_module(_LOOP).train
        return train(job, _newest(options, checkpoints, looking))
    except Exception as e:
        if not isinstance(e, RunEnded) and isinstance(explained(e), OutOfMemory):
            raise OutOfMemory(f"out of memory: {first_line(e)}; {_LESS_MEMORY}") from e
        raise
    finally:
        checkpoints.finishing.settle()


def _job(
    run: Run,
    options: Options,
    entries: tuple[Entry, ...],
    family: "Family",
    plan: Plan,
    scripts: Scripts,
    checkpoints: Checkpoints,
) -> "Job":
    """What the loop is given, once the data and the model's files are good."""
    from trainyard.trainer.diffusion.job import Job
    from trainyard.trainer.diffusion.source import find

    run.report.phase("validating")
    gallery = survey(
        entries,
        options,
        family.stride,
        options.seed or 0,
        run.control.check,
        lambda said: run.report.log(said, level="warning"),
        cache=run.spec.cache,
    )
    places(entries, options, run.spec.cache)
    weights = find(run, options, family)
    if problems := [*family.check(weights, options), *_against_whole(weights, options)]:
        of_the_model = all(problem.startswith("extra_parameters.pretrained_") for problem in problems)
        raise ModelError("; ".join(problems)) if of_the_model else ConfigError(*problems)
    for note in family.notes(options):
        run.report.log(note, level="warning")
    check_prediction(options, options.prediction_type or family.prediction)
    return Job(
        run=run,
        options=options,
        entries=entries,
        family=family,
        weights=weights,
        gallery=gallery,
        plan=plan,
        scripts=scripts,
        checkpoints=checkpoints,
    )


def _against_whole(weights: "Weights", options: Options) -> Iterator[str]:
    """What can't become a diffusers folder, which is what a full fine-tune leaves."""
    if options.model_type != "full":
        return
    files = [weights.root, *weights.parts.values()]
    if single := next((path for path in files if path.is_file()), None):
        yield (
            f"extra_parameters.model_type: full leaves a diffusers folder, and {single} is a single file, which is not "
            "in this version; a folder, or model_type lora, would be right"
        )


def _newest(options: Options, checkpoints: Checkpoints, looking: Looking) -> Checkpoint | None:
    """Where to go on from: the job's own newest checkpoint; where it has none yet, the one that was asked for.

    Raises `ConfigError` where that is none.
    """
    from trainyard.trainer.diffusion.keep import plain

    asked, own = options.resume_from_checkpoint, looking.newest()
    if own is not None or asked in ("", "latest"):
        return own
    path = Path(asked) if Path(asked).is_absolute() else checkpoints.folder / asked
    if (problem := damage(path)) is not None:
        raise ConfigError(f"extra_parameters.resume_from_checkpoint: {path} is no whole checkpoint: {problem}")
    found = Checkpoint(path, read_json(path / RECORD) or {})
    before, here = found.record.get("settings", {}), plain(options)
    if other := [name for name in _OF_A_KIND if before.get(name) != here[name]]:
        told = ", ".join(f"{name} {before.get(name)!r}, here {here[name]!r}" for name in other)
        raise ConfigError(f"extra_parameters.resume_from_checkpoint: {path} is of another kind of training: {told}")
    return found
