"""The diffusion loop: device, data, caches, model, optimizer, steps, result. Order of the file is order of time."""

import time
from functools import partial
from typing import Any

import torch

from trainyard.trainer.checkpoints import Checkpoint
from trainyard.trainer.diffusion import cache, pace
from trainyard.trainer.diffusion.card import Card
from trainyard.trainer.diffusion.data.epochs import Epochs
from trainyard.trainer.diffusion.ema import Average
from trainyard.trainer.diffusion.job import Job
from trainyard.trainer.diffusion.keep import Keeper
from trainyard.trainer.diffusion.memory.planned import planned
from trainyard.trainer.diffusion.model import Precision, put_on
from trainyard.trainer.diffusion.model.quantised import loads_on, quantise
from trainyard.trainer.diffusion.optimizers import make_optimizer
from trainyard.trainer.diffusion.quiet import quiet
from trainyard.trainer.diffusion.result import write_result
from trainyard.trainer.diffusion.state import Position
from trainyard.trainer.diffusion.step import Forward, Learned, Step, shared
from trainyard.trainer.diffusion.validation.validating import Validation
from trainyard.trainer.failures import Stopped
from trainyard.trainer.generators import seed_all
from trainyard.trainer.numbers import check_sound, lost
from trainyard.trainer.processes import World
from trainyard.trainer.progress import Progress
from trainyard.trainer.run import Result


def train(job: Job, newest: Checkpoint | None) -> Result:
    """Train to the end, or raise what ended it."""
    # ---- device and generators -----------------------------------------------------------------------------------
    run, options, family, weights = job.run, job.options, job.family, job.weights
    torch.set_num_threads(run.spec.threads)
    if torch.get_num_interop_threads() != 1:  # it can be set once in a process
        torch.set_num_interop_threads(1)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not options.disable_tf32
    seed_all(job.seed)
    quiet()
    world = World.join(run.claim, run.spec)
    if world.size > 1:
        job.gallery.check_same(world)
    device = world.device
    precision = Precision.of(options, device)
    noise = family.noise(weights, options)

    # ---- data: what the frozen models say of it is computed once, then they are gone -----------------------------
    position = Position() if newest is None else Position.of(newest.record)
    epochs = Epochs(job.gallery, options, job.seed, world.size)
    position.place(epochs.steps(position.epoch))
    rhythm = pace.begun(run, options, position, epochs)
    run.report.phase("caching")
    caches = cache.prepare(
        family,
        weights,
        options,
        job.entries,
        job.gallery,
        world,
        folder=run.spec.cache,
        check=run.control.check,
        say=run.report.log,
        loading=run.control.interruptible,
        prompts=job.plan.texts,
    )
    shown = dict(zip(job.plan.texts, caches.texts.read(job.plan.texts), strict=True))

    # ---- model ---------------------------------------------------------------------------------------------------
    run.report.phase("preparing")
    gauge = planned(job, world)
    with run.control.interruptible():
        denoiser: Any = family.denoiser(weights, options, loads_on(options, device), precision.held)
        denoiser = quantise(denoiser, options, device)
    warn = partial(run.report.log, level="warning")
    trained = put_on(denoiser, family, weights, options, precision, warn)
    parameters = list(trained.parameters.values())
    average = Average.of(trained.parameters, options, device) if options.use_ema and world.first else None

    # ---- optimizer, and where to go on ---------------------------------------------------------------------------
    if world.rank and options.seed_for_each_device:
        seed_all(job.seed + world.rank)  # every process drops out other places
    optimizer = make_optimizer(options, parameters, job.seed)
    scaler = precision.scaler(device)
    keeper = Keeper(job, trained, average, optimizer, scaler, world)
    if newest is not None:
        keeper.restore(newest)
    forward = shared(Forward(family, trained).train(), world)
    step = Step(
        job=job,
        world=world,
        noise=noise,
        epochs=epochs,
        forward=forward,
        precision=precision,
        optimizer=optimizer,
        scaler=scaler,
        parameters=parameters,
        gauge=gauge,
    )
    validation = Validation(
        plan=job.plan,
        run=run,
        world=world,
        family=family,
        weights=weights,
        options=options,
        gallery=job.gallery,
        embeddings=shown,
        scripts=job.scripts,
        total=lambda: rhythm.total,
        newest=keeper.keeping.newest,
        look=job.checkpoints.look,
        network=trained.network,
        ema=average.shown if average is not None else None,
    )
    progress = Progress(run.report, job.curves.from_step(position.step), rhythm, "samples")
    counts = sum(p.numel() for p in parameters), sum(p.numel() for p in denoiser.parameters())
    _tell_plan(job, counts, epochs, rhythm.total)

    # ---- steps ---------------------------------------------------------------------------------------------------
    learned: Learned | None = None
    with caches.loader(epochs, rank=world.rank, device=device, say=run.report.log) as loader:
        while True:
            if why := validation.due(position):
                try:
                    validation.run(denoiser, position, why)
                except Stopped:
                    check_sound(run, position, partial(step.sound, learned))
                    keeper.save(position, "stop")
                    raise run.control.stopped() from None
            steps = epochs.steps(position.epoch)
            if position.step >= rhythm.total or steps == 0:  # 0: every data set has come to its end
                progress.tell(position, max(steps, 1), over=True)
                break

            run.report.phase("training")
            began = time.perf_counter()
            rate, pictures = rhythm.rate(position.step), epochs.samples(position.epoch, position.index)
            batches = loader.step(position.epoch, position.index)
            gradient = step.gradient(batches, position)  # None: a stop between two micro batches
            if gradient is not None and gradient.lost:
                if sound := step.sound(learned):
                    keeper.save(position, "stop")
                raise lost(position, gradient, rate, sound)
            if gradient is not None:
                step.apply(gradient, rate)
                learned = Learned(batches, position.step)
                position.advance(steps, gradient.loss)
                if average is not None:
                    average.update(position.step)
                progress.step(position, steps, rate, gradient.norm, pictures, time.perf_counter() - began)

            stop, wanted = keeper.keeping.agree()
            rhythm.keep_up(run.control, world, position)
            job.scripts.look()
            regular = rhythm.save_steps is not None and position.step % rhythm.save_steps == 0
            if stop or regular or wanted or position.step >= rhythm.total:
                check_sound(run, position, partial(step.sound, learned))
                keeper.save(position, "stop" if stop else "step")
            if stop:
                progress.tell(position, steps)  # after the checkpoint: a resumed run reports as if it never stopped
                raise run.control.stopped()
        waited = loader.waited

    # ---- result --------------------------------------------------------------------------------------------------
    caches.close()
    keeper.keeping.finish()
    run.report.phase("uploading")
    final = ""
    if world.first:
        epochs_done = round(position.epoch + position.index / max(1, epochs.steps(position.epoch)), 4)
        notes: dict[str, Any] = {"epochs": epochs_done, "loader_waited_seconds": round(waited, 3)}
        notes["memory"] = gauge.plain()
        card = Card(job=job, position=position, parameters=counts, notes=notes)
        final = write_result(card, trained, average, validation.grid())
        run.report.event("artifact", {"step": position.step, "uri": final, "kind": "final"})
    world.leave()
    return Result(position.step, final)


def _tell_plan(job: Job, counts: tuple[int, int], epochs: Epochs, total: int) -> None:
    """What will be trained, on what, and for how long."""
    pictures = len(job.gallery.pictures)
    job.run.report.log(
        f"{pictures:,} pictures, {len(epochs):,} steps an epoch, {total:,} in all; "
        f"{counts[0]:,} of {counts[1]:,} parameters are trained"
    )
