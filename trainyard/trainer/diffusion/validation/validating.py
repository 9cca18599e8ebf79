"""When a job's validation is due, and what is done then, by the first process; the others wait."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from schemas.diffusion import Options
from trainyard.trainer.diffusion.data.gallery import Gallery
from trainyard.trainer.diffusion.families.family import Embedding, Family
from trainyard.trainer.diffusion.scripts import Scripts
from trainyard.trainer.diffusion.validation import decoders
from trainyard.trainer.diffusion.validation.drawing import Averaged, Drawing, rounded
from trainyard.trainer.diffusion.validation.pictures import Files
from trainyard.trainer.diffusion.validation.plan import Plan
from trainyard.trainer.diffusion.validation.previews import Tiny
from trainyard.trainer.diffusion.validation.sampler import check_sampler
from trainyard.trainer.diffusion.weights import Weights
from trainyard.trainer.failures import (
    ConfigError,
    DiskFull,
    Fenced,
    OutOfMemory,
    RunEnded,
    Stopped,
    explained,
    first_line,
)
from trainyard.trainer.generators import Generators
from trainyard.trainer.processes import World
from trainyard.trainer.run import Run

log = logging.getLogger("trainyard.trainer")


class Place(Protocol):
    """Where a run stands."""

    step: int
    #: Whole epochs behind it, and optimizer steps of the present one.
    epoch: int
    index: int
    #: The newest step that was validated; -1: none.
    evaluated: int


class Validation:
    """One for a run; every process calls `due` and `run` alike."""

    def __init__(
        self,
        *,
        plan: Plan,
        run: Run,
        world: World,
        family: Family,
        weights: Weights,
        options: Options,
        gallery: Gallery,
        embeddings: Mapping[str, Embedding],
        scripts: Scripts,
        total: Callable[[], int],
        newest: Callable[[], Path | None],
        look: Callable[[], None] = lambda: None,
        network: Any = None,
        ema: Averaged | None = None,
    ) -> None:
        """`total`: steps of the whole run; `newest`: the newest complete checkpoint, once it stands; `look`: called
        while pictures are made, for one that stands by then.

        Raises `ConfigError` for what this family can't do.
        """
        self._plan, self._run, self._world, self._options = plan, run, world, options
        self._scripts, self._total, self._newest, self._look = scripts, total, newest, look
        self._unkept: Exception | None = None
        self._began = False
        self._files = Files(run, options.validation_image_format, options.validation_image_quality)
        if plan.why_not is not None or plan.external:
            return
        check_sampler(options.validation_noise_scheduler, family.prediction)
        if options.validation_using_datasets and not family.edits(options):
            raise ConfigError(
                f"extra_parameters.validation_using_datasets: {family.name} of this flavour is not shown pictures to "
                "edit; leave it out"
            )
        fitting = rounded(plan, family.stride)
        if fitting.sizes != plan.sizes:
            shown = ", ".join(f"{width}x{height}" for width, height in fitting.sizes)
            run.report.log(
                f"validation_resolution: {options.validation_resolution} is rounded to {shown}, multiples of "
                f"{family.stride} pixels",
                level="warning",
            )
        self._drawing = Drawing(
            plan=fitting,
            run=run,
            device=world.device,
            family=family,
            weights=weights,
            options=options,
            gallery=gallery,
            embeddings=embeddings,
            files=self._files,
            look=self._looked,
            network=network,
            averaged=ema,
            decoder=self._decoder(family, weights),
        )

    def due(self, position: Place) -> str | None:
        """Why there is one now: `benchmark`, `startup`, `step`, `epoch`, `end` or `command`; None: there is none."""
        options, first, self._began = self._options, not self._began, True
        if self._plan.why_not is not None:
            return None
        if self._run.control.validation_wanted:
            return "command"
        if first and position.step == 0 and not options.disable_benchmark and not self._plan.external:
            return "benchmark" if position.evaluated < 0 else None
        if first and options.validation_on_startup:
            return "startup"
        if position.evaluated >= position.step:
            return None
        if position.step >= self._total():
            return "end"
        return self._interval(position)

    def run(self, denoiser: torch.nn.Module, position: Place, why: str) -> None:
        """Make the pictures, or start the script in their place, and answer who asked.

        Raises `Stopped` in every process where a stop came meanwhile; what is made by then stays.
        """
        control = self._run.control
        waiting = control.validations() if control.validation_wanted or why == "end" else []
        self._run.report.phase("evaluating")
        stopped, good, message = False, True, ""
        if self._world.first:
            try:
                good, message = self._done(denoiser, position.step, why)
            except Stopped:
                stopped = True
        if self._world.any(stopped)[0]:
            for command in waiting:
                control.answer(command, False, "the run was stopped before the validation was over")
            control.check_together(self._world)
        position.evaluated = position.step
        for command in waiting:
            control.answer(command, good, message, position.step)

    def grid(self) -> Path | None:
        """The newest pictures of the trained model in one file, `validation/step-<n>/grid.png`."""
        return self._files.grid()

    def _decoder(self, family: Family, weights: Weights) -> Tiny | None:
        """What previews are made with: a folder that does not fit is found before the training."""
        if not self._options.validation_preview or not self._world.first:
            return None
        generators = Generators.now()
        try:
            return decoders.find(self._run, self._options, family, weights, self._world.device)
        finally:
            generators.restore()

    def _interval(self, position: Place) -> str | None:
        options, step, epoch = self._options, position.step, position.epoch
        early = step < (options.validate_after_step or 0) or epoch < (options.validate_after_epoch or 0)
        if step == 0 or early:
            return None
        if options.validation_step_interval and step % options.validation_step_interval == 0:
            return "step"
        whole = position.index == 0 and options.validation_epoch_interval
        return "epoch" if whole and epoch % whole == 0 else None

    def _done(self, denoiser: torch.nn.Module, step: int, why: str) -> tuple[bool, str]:
        """Whether it came to something, and to what."""
        if self._plan.external:
            return True, self._scripts.validate(self._newest(), step)
        began = time.perf_counter()
        try:
            count = self._drawing.round(denoiser, step, why)
        except Exception as e:  # what was learned is worth more than a look at it
            known = explained(e)
            if e is self._unkept or isinstance(known, Stopped | Fenced | DiskFull):
                raise
            torch.cuda.empty_cache()
            log.warning("the validation at step %d came to nothing", step, exc_info=e)
            message = f"validation at step {step}: {_why(e, known)}"
            self._run.report.log(message, level="warning")
            return False, message
        message = f"{count} picture{'s' * (count != 1)} at step {step}"
        self._run.report.log(f"{message} in {time.perf_counter() - began:.1f} s ({why})")
        return True, message

    def _looked(self) -> None:
        """What is wrong with a checkpoint is no fault of the pictures."""
        try:
            self._look()
        except Exception as e:
            self._unkept = e
            raise


def _why(error: Exception, known: RunEnded | None) -> str:
    """What kept the pictures from being made."""
    if isinstance(known, OutOfMemory):
        return f"out of memory: {first_line(error)}; fewer pixels need less"
    return str(error) if isinstance(error, RunEnded) else f"{type(error).__name__}: {first_line(error)}"
