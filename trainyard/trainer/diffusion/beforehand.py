"""What is known to go wrong before anything is cached or loaded: asked alike by a run and by a deep validation."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import evolve

from schemas.diffusion import Options
from trainyard.trainer.diffusion.options import check_prediction
from trainyard.trainer.diffusion.scripts import found_scripts
from trainyard.trainer.failures import ConfigError, ModelError

if TYPE_CHECKING:
    from trainyard.trainer.diffusion.families.family import Family
    from trainyard.trainer.diffusion.validation.plan import Plan
    from trainyard.trainer.diffusion.weights import Weights

_OF_THE_MODEL = "extra_parameters.pretrained_"


def before_loading(options: Options, plan: "Plan", family: "Family", weights: "Weights") -> list[str]:
    """Notes on what an option does not do here.

    Raises `ModelError` for weights that do not do, else `ConfigError` with all options that can't be followed, beside
    each other or by this model. Only headers and configurations are read.
    """
    if problems := family.check(weights, options):
        of_the_model = all(problem.startswith(_OF_THE_MODEL) for problem in problems)
        raise ModelError("; ".join(problems)) if of_the_model else ConfigError(*problems)
    problems = [problem for look in _looks(options, plan, family, weights) for problem in _problems(look)]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    return family.notes(options)


def _looks(options: Options, plan: "Plan", family: "Family", weights: "Weights") -> Iterator[Callable[[], object]]:
    """Each raises `ConfigError`."""
    yield lambda: check_prediction(options, options.prediction_type or family.prediction)
    yield lambda: family.noise(weights, options)
    yield lambda: found_scripts(options)
    yield lambda: _check_beginning(options)
    yield lambda: _check_optimizer(options)
    if options.model_type == "lora":
        yield lambda: _check_modules(options, family, weights)
    if plan.why_not is None and not plan.external:
        yield from _of_pictures(options, family, weights)


def _of_pictures(options: Options, family: "Family", weights: "Weights") -> Iterator[Callable[[], object]]:
    """Of a validation that draws."""
    from trainyard.trainer.diffusion.validation.sampler import check_sampler

    yield lambda: check_sampler(options.validation_noise_scheduler, family.prediction)
    yield lambda: _check_edits(options, family)
    if options.validation_preview and options.validation_preview_decoder:
        yield lambda: _check_decoder(options.validation_preview_decoder or "", weights)


def _problems(look: Callable[[], object]) -> tuple[str, ...]:
    try:
        look()
    except ConfigError as e:
        return e.problems
    return ()


def _check_beginning(options: Options) -> None:
    from trainyard.trainer.diffusion.beginning import problem_of

    if (problem := problem_of(options)) is not None:
        raise ConfigError(problem)


def _check_optimizer(options: Options) -> None:
    """Over one number, which shows what its constructor takes."""
    import torch

    from trainyard.trainer.diffusion.optimizers import make_optimizer

    make_optimizer(options, [torch.nn.Parameter(torch.zeros(1))], 0)


def _check_modules(options: Options, family: "Family", weights: "Weights") -> None:
    """The adapter, of rank 1, on a model of shapes alone."""
    if weights.at(family.part) is None:
        return
    import torch

    from trainyard.trainer.diffusion.model import Precision, put_on

    with torch.device("meta"):
        shapes = family.blank(weights, options, torch.float32)
        small = evolve(options, lora_rank=1, use_dora=False, gradient_checkpointing=False)
        put_on(shapes, family, weights, small, Precision(torch.float32, None))


def _check_edits(options: Options, family: "Family") -> None:
    if options.validation_using_datasets and not family.edits(options):
        raise ConfigError(
            f"extra_parameters.validation_using_datasets: {family.name} of this flavour is not shown pictures to edit; "
            "leave it out"
        )


def _check_decoder(place: str, weights: "Weights") -> None:
    import torch

    from trainyard.trainer.diffusion.validation.previews import Tiny

    if Path(place).is_absolute():
        Tiny.load(place, weights.config("vae").get("latent_channels"), torch.device("cpu"))
