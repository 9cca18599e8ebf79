"""What can be known about a diffusion job before its model is loaded; then the loop."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from attrs import evolve

from schemas.diffusion import Options
from schemas.diffusion.dataloader import Entry
from trainyard.trainer.checkpoints import Checkpoint, Checkpoints
from trainyard.trainer.diffusion import families
from trainyard.trainer.diffusion.beforehand import before_loading
from trainyard.trainer.diffusion.cache import places
from trainyard.trainer.diffusion.data import survey
from trainyard.trainer.diffusion.data.remote import bring
from trainyard.trainer.diffusion.options import read_dataloader, read_options
from trainyard.trainer.diffusion.scripts import Scripts
from trainyard.trainer.diffusion.validation.plan import Plan
from trainyard.trainer.failures import OutOfMemory, RunEnded, explained, first_line
from trainyard.trainer.imports import list_models_once, quickly
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
    "base_model_precision int8-quanto (by quantize_via cpu the whole base is never on the GPU), and model_type lora "
    "need less"
)
#: What accelerate, transformers and diffusers import where it is installed; diffusers has samplers that need scipy.
_UNUSED = ("boto3", "wandb")
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


def _still_asked(options: Options, checkpoints: Checkpoints) -> Options:
    """A job with a checkpoint of its own goes on from that, whatever became of the one that it began with."""
    return options if checkpoints.in_size() is None else evolve(options, resume_from_checkpoint="latest")


def unused(options: Options) -> tuple[str, ...]:
    """The packages that this job's imports can do without; together they take over two seconds."""
    quantisers = {"bitsandbytes": options.optimizer.startswith("bnb-")}
    quantisers["torchao"] = options.base_model_precision.endswith("-torchao")
    return (*_UNUSED, *(name for name, needed in quantisers.items() if not needed))


def _trained(
    run: Run, options: Options, entries: tuple[Entry, ...], plan: Plan, scripts: Scripts, checkpoints: Checkpoints
) -> Result:
    looking, good = Looking(run, checkpoints), False
    job: Job | None = None
    try:
        with run.control.interruptible(), quickly(*unused(options)):
            family = families.find(options.model_family)
        job = _job(run, options, entries, family, plan, scripts, checkpoints)
        with run.control.interruptible(), quickly(*unused(options)):
            train: Callable[..., Result] = import_module(_LOOP).train
        result = train(job, _newest(run, options, looking))
        good = True
        return result
    except Exception as e:
        if not isinstance(e, RunEnded) and isinstance(explained(e), OutOfMemory):
            raise OutOfMemory(f"out of memory: {first_line(e)}; {_LESS_MEMORY}") from e
        raise
    finally:
        try:
            checkpoints.finishing.settle()
        finally:
            if job is not None:
                job.curves.close(good)


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
    from trainyard.trainer.diffusion.curves import Curves
    from trainyard.trainer.diffusion.job import Job
    from trainyard.trainer.diffusion.source import find

    entries = bring(run, entries)
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
    with run.control.interruptible(), quickly(*unused(options)):
        list_models_once()
        notes = before_loading(_still_asked(options, checkpoints), plan, family, weights)
    if options.model_type == "full":
        _check_result_fits(weights, family, checkpoints)
    for note in notes:
        run.report.log(note, level="warning")
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
        curves=Curves(options, run),
    )


def _check_result_fits(weights: "Weights", family: "Family", checkpoints: Checkpoints) -> None:
    """A whole model is copied at the end, text encoders and all. Raises `DiskFull` before the first step."""
    held = {place for part in family.parts if (place := weights.at(part)) is not None}
    files = {path for place in held for path in (place.rglob("*") if place.is_dir() else (place,)) if path.is_file()}
    checkpoints.check_room(sum(path.stat().st_size for path in files), "the result")


def _newest(run: Run, options: Options, looking: Looking) -> Checkpoint | None:
    """Where to go on from: the job's own newest checkpoint; where it has none yet, the one that was asked for.

    Raises `ConfigError` where that is none.
    """
    from trainyard.trainer.diffusion.beginning import begun_with

    own = looking.newest()
    if own is not None:
        return own
    try:
        since = (run.claim.own / "owner.json").stat().st_mtime  # written once, before any process of this run began
    except FileNotFoundError:
        since = float("inf")
    return begun_with(options, run.spec.output, since, run.report.log)
