"""The text loop: device, data, model, optimizer, where to go on, steps, result. Order of the file is order of time."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from attrs import evolve

from trainyard.trainer.board import Board
from trainyard.trainer.checkpoints import Checkpoint, Checkpoints
from trainyard.trainer.failures import Stopped
from trainyard.trainer.generators import restore_generators, seed_all
from trainyard.trainer.numbers import check_sound, lost
from trainyard.trainer.processes import World
from trainyard.trainer.progress import Progress
from trainyard.trainer.run import Result, Run
from trainyard.trainer.text import model as models
from trainyard.trainer.text.at_once import both
from trainyard.trainer.text.data import Corpus
from trainyard.trainer.text.evaluation import Evaluation
from trainyard.trainer.text.keep import Keeper, differences, with_kept_micro
from trainyard.trainer.text.loss import Loss
from trainyard.trainer.text.memory.estimate import peak
from trainyard.trainer.text.optimizers import make_optimizer
from trainyard.trainer.text.pace import begun
from trainyard.trainer.text.preflight import plan as preflight
from trainyard.trainer.text.result import write_result
from trainyard.trainer.text.settings import Settings, part
from trainyard.trainer.text.sharding import held, sharded, spread, whole_state
from trainyard.trainer.text.state import Position, load_optimizer
from trainyard.trainer.text.step import Sequences, Step
from trainyard.trainer.text.strategy import choose_strategy, may_shard, of_adapter
from trainyard.trainer.text.tell import tell_data, tell_template
from trainyard.trainer.text.tokens.batches import Epochs, split
from trainyard.trainer.text.tokens.documents import keep_apart
from trainyard.trainer.text.tokens.tokenise import tokenise


def train(run: Run, settings: Settings, corpus: Corpus, checkpoints: Checkpoints, newest: Checkpoint | None) -> Result:
    """Train to the end, or raise what ended it."""
    # ---- device and generators -----------------------------------------------------------------------------------
    torch.set_num_threads(run.spec.threads)
    if torch.get_num_interop_threads() != 1:  # it can be set once in a process
        torch.set_num_interop_threads(1)
    seed_all(settings.seed)
    models.quiet()
    world = World.join(run.claim, run.spec)
    device = world.device

    # ---- data: the tokenizer and the model's length are enough for it, the weights come only when it is good -----
    models.check_machine(settings, device)
    if models.remote(run.spec.request):
        run.report.phase("downloading")
    kept = newest.path if newest else None
    source = world.share(models.find_for(run) if world.first else None)
    settings = of_adapter(settings, models.adapter_kind(source))
    with run.control.interruptible():
        tokenizer = models.load_tokenizer(source, settings, corpus.rows, kept)
        config = models.load_config(source)
    longest = models.longest(config, settings)
    if "messages" in corpus.kinds:
        tell_template(run.report, tokenizer)
    folder = run.claim.own / f"tokens.{world.rank}" if corpus.streaming else None
    data = tokenise(
        corpus.spend_rows(), tokenizer, longest, run.control.check, on_bad_row=settings.on_bad_row, folder=folder
    )
    training, held_out = split(data.examples, settings.eval_ratio, settings.seed)
    tell_data(run.report, data, len(training), len(held_out), longest, settings.eval_ratio)

    position = Position() if newest is None else Position.of(newest.record)
    epochs = Epochs(training, settings.batch_size, settings.seed, longest if settings.packing else None)
    position.place(len(epochs.epoch(position.epoch)))
    batches = epochs.epoch(position.epoch)
    pace = begun(run, settings, position, len(batches))

    # ---- model ---------------------------------------------------------------------------------------------------
    with run.control.interruptible():
        model = models.load_model(
            source,
            settings,
            kept,
            device=torch.device("cpu") if may_shard(settings) else device,
            tokenizer=tokenizer,
            steps=pace.total,
            warn=partial(run.report.log, level="warning"),
        )
    models.check_vocabulary(source, model, data.examples)
    model.train()
    half = models.computed_in(settings, device)

    # ---- plan: how many rows at once -----------------------------------------------------------------------------
    used = settings if newest is None else with_kept_micro(newest.record, settings, position)
    plan = _planned(run, world, model, used, data.examples.lengths, longest)
    settings = evolve(settings, strategy=plan.settings.strategy)
    position.micro = plan.settings.micro_batch_size or settings.share
    preflight.tell(run.report, plan, model, data.examples.lengths, data.truncated, pace.total)

    forward = _placed(run, model, kept, settings, world, half)

    # ---- optimizer, and where to go on ---------------------------------------------------------------------------
    if world.rank:
        seed_all(settings.seed + world.rank)  # every process drops out other places
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimizer(settings, models.parameter_groups(model, settings.weight_decay), model)
    scaler = torch.amp.GradScaler(device.type, enabled=half is torch.float16)
    if newest is not None:
        load_optimizer(optimizer, scaler, newest.path, device)
        restore_generators(newest.record["generators"], world)
        run.report.log(f"goes on from step {newest.step}: {newest.path}")
        for difference in differences(newest.record, run.spec.threads, settings.cut(position.micro), corpus):
            run.report.log(difference, level="warning")
    loss = Loss(model, half, device, forward)
    micro, rows = both(run, position)
    pad = tokenizer.pad_token_id
    step = Step(
        run, loss, optimizer, scaler, parameters, settings.max_grad_norm, micro, pad, settings.packing, world, model
    )
    evaluation = Evaluation(held_out, settings, pace, loss, rows, pad, world)
    keeper = Keeper(run, settings, corpus, checkpoints, model, tokenizer, optimizer, scaler, world)
    board = Board(run.spec.output, str(run.claim.pair), position.step, silent=not world.first)
    progress = Progress(run.report, board, pace)

    # ---- steps ---------------------------------------------------------------------------------------------------
    learned: Sequences | None = None  # the newest batch that had a loss: a sound model still gives it one
    while True:
        if evaluation.due(position):
            run.report.phase("evaluating")
            try:
                metrics = evaluation.measure(model, keeper.check)
            except Stopped:
                check_sound(run, position, partial(step.sound, learned))
                keeper.save(position, "stop")
                raise run.control.stopped() from None
            better = position.note_evaluation(metrics)
            progress.evaluated(position, metrics)
            if better and evaluation.keeps_the_best:
                keeper.save(position, "best")
        if position.step >= pace.total or evaluation.enough(position):
            progress.tell(position, len(batches), over=True)
            break

        run.report.phase("training")
        began = time.perf_counter()
        rate = pace.rate(position.step)
        batch = epochs.rows(batches[position.index])
        gradient = step.gradient(batch)  # None: a stop between two micro batches, the step is as if it never began
        position.micro = micro.rows
        if gradient is not None and gradient.lost:
            if sound := step.sound(learned):
                keeper.save(position, "stop")
            raise lost(position, gradient, rate, sound)
        if gradient is not None:
            step.apply(gradient, rate, position.step + 1)
            learned = batch
            position.advance(len(batches), gradient.loss)
            tokens = sum(len(e) for sequence in batch for e in sequence)
            progress.step(position, len(batches), rate, gradient.norm, tokens, time.perf_counter() - began)
            if position.index == 0:
                batches = epochs.epoch(position.epoch)

        stop, wanted = keeper.agree()
        pace.keep_up(run.control, world, position)
        regular = pace.save_steps is not None and position.step % pace.save_steps == 0
        if stop or regular or wanted or position.step >= pace.total:
            check_sound(run, position, partial(step.sound, learned))
            keeper.save(position, "stop" if stop else "step")
        if stop:
            progress.tell(position, len(batches))  # after the checkpoint: a resumed run reports as if it never stopped
            raise run.control.stopped()

    # ---- result --------------------------------------------------------------------------------------------------
    keeper.finish()
    run.report.phase("uploading")
    model = _whole(run, source, settings, model, world, tokenizer)
    if not world.first:
        world.leave()
        return Result(position.step, "")
    used = settings.cut(position.micro)
    epochs_done = round(position.epoch + position.index / len(batches), 4)
    notes = {"memory": plan.estimate.against(peak(device)), "halved": position.halved, "epochs": epochs_done}
    notes["tokens"] = int(data.examples.lengths.sum())
    if settings.early_stopping_patience is not None:
        notes |= {"best": position.best}
        model = _best(run, used, source, model, position, checkpoints)
    final = write_result(run, used, corpus, source, model, tokenizer, position, notes)
    run.report.event("artifact", {"step": position.step, "uri": final, "kind": "final"})
    world.leave()
    return Result(position.step, final)


def _planned(
    run: Run, world: World, model: Any, settings: Settings, lengths: np.ndarray, longest: int
) -> preflight.Plan:
    """The first process's plan, for all of them, with the strategy decided: shares where a whole copy does not fit."""
    memory = _memory_gb(run)
    plan = preflight.planned(model, settings, lengths, longest, world.device, memory)
    strategy = choose_strategy(settings, fits=plan.warning is None)
    if strategy != settings.strategy:
        settings = evolve(settings, strategy=strategy)
        again = preflight.planned(model, settings, lengths, longest, world.device, memory)
        plan = again if strategy == "fsdp" else evolve(plan, settings=evolve(plan.settings, strategy=strategy))
    chosen: preflight.Plan = world.share(plan)
    return chosen


def _placed(run: Run, model: Any, kept: Path | None, settings: Settings, world: World, half: torch.dtype | None) -> Any:
    """Put the model where it is trained: on the device, a copy or a share in each process. Returns what is called."""
    if kept is not None:
        models.load_adapter(model, kept, next(model.parameters()).device)
    with run.control.interruptible():
        forward = spread(model, settings, world, half)
    if world.size > 1:
        run.report.log(held(model, world))
    if settings.packing:
        keep_apart(model, world.device, half)
    return forward


def _whole(run: Run, source: models.Source, settings: Settings, model: Any, world: World, tokenizer: Any) -> Any:
    """The model itself, or, where it is in shares, the trained model in one piece on the CPU of the first process."""
    if not sharded(model):
        return model
    with run.control.interruptible():
        state = whole_state(model, world, trained=settings.adapts)
        if not world.first:
            return model
        found = models.load_model(source, settings, None, tokenizer=tokenizer)
        found.load_state_dict(state, strict=not settings.adapts)
        return found


def _best(
    run: Run,
    settings: Settings,
    source: models.Source,
    model: Any,
    position: Position,
    checkpoints: Checkpoints,
) -> Any:
    """The model as it was evaluated best; as it is where that is the last one, or where its checkpoint is gone."""
    if position.best_step in (0, position.step):
        return model
    best = checkpoints.of(position.best_step)
    if best is None:
        run.report.log(f"the best checkpoint, step {position.best_step}, is gone or damaged; the result is of the last")
        return model
    run.report.log(
        f"the held-out loss was least at step {best.step} ({position.best_loss:.4f}) and no better in the "
        f"{position.no_better} evaluations since; the result is of that step"
    )
    position.metrics["eval_loss"] = position.best_loss
    position.result_step = best.step
    with run.control.interruptible():
        if settings.adapts:
            models.load_adapter(model, best.path, next(model.parameters()).device)
            return model
        return models.load_model(source, settings, best.path)  # on the CPU: the device still holds the other one


def _memory_gb(run: Run) -> float | None:
    """What the job was given of the host's memory."""
    given = part(run.spec.request, "resources").get("memory_gb")
    return float(given) if given else None
