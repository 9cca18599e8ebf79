"""Preference objectives, by TRL's trainers: data, model, plan, trainer, steps, result.

To add an objective: a class of TRL's with `Supervised` before it and its configuration in `TRAINERS`
(`trainers.py`), and a line in `_OBJECTIVES` of `engine.py`. Its rows come from `text/data/` (kind `preference`),
already looked at; what it measures is told under the names in `report.py`. All the rest, checkpoints, events,
stops, the result, is the same for all. An objective whose rows have another shape gets that shape in
`text/data/shapes.py` first.

TRL and datasets are imported here, so only by jobs of such an objective. Their runs go on from a checkpoint, but not
bit for bit as if they had never been stopped.
"""

import math
from functools import partial
from typing import Any

import torch
from transformers import set_seed

from trainyard.trainer.board import Board
from trainyard.trainer.checkpoints import Checkpoint, Checkpoints
from trainyard.trainer.failures import ConfigError, NanLoss, Stopped
from trainyard.trainer.processes import World
from trainyard.trainer.run import Result, Run
from trainyard.trainer.text import model as models
from trainyard.trainer.text.at_once import AtOnce, both
from trainyard.trainer.text.data import Corpus
from trainyard.trainer.text.data.material import counted
from trainyard.trainer.text.keep import with_kept_micro
from trainyard.trainer.text.memory.estimate import peak
from trainyard.trainer.text.pace import begun
from trainyard.trainer.text.preference.keep import TrlKeeper, check_kind
from trainyard.trainer.text.preference.pairs import Pairs, tokenise_pairs
from trainyard.trainer.text.preference.report import Telling
from trainyard.trainer.text.preference.trainers import drop_reference, make_trainer, take_at_once
from trainyard.trainer.text.preflight import plan as preflight
from trainyard.trainer.text.result import write_result
from trainyard.trainer.text.settings import Settings, part
from trainyard.trainer.text.state import Position
from trainyard.trainer.text.tell import tell_held_out, tell_template
from trainyard.trainer.text.tokens.batches import split

#: What TRL's trainers take no other value for once they have begun.
_FIXED = ("max_steps", "num_epochs")


def train(run: Run, settings: Settings, corpus: Corpus, checkpoints: Checkpoints, newest: Checkpoint | None) -> Result:
    """Train to the end, or raise what ended it."""
    # ---- device and generators -----------------------------------------------------------------------------------
    _check(run, settings, newest)
    torch.set_num_threads(run.spec.threads)
    if torch.get_num_interop_threads() != 1:  # it can be set once in a process
        torch.set_num_interop_threads(1)
    set_seed(settings.seed)
    models.quiet()
    world = World.join(run.claim, run.spec)

    # ---- data ----------------------------------------------------------------------------------------------------
    models.check_machine(settings, world.device)
    if models.remote(run.spec.request):
        run.report.phase("downloading")
    source = world.share(models.find_for(run) if world.first else None)
    with run.control.interruptible():
        tokenizer = models.load_tokenizer(source, settings, corpus.rows, newest.path if newest else None)
        config = models.load_config(source)
    longest = models.longest(config, settings)
    if any(isinstance(row.value[0], list) for row in corpus.rows):
        tell_template(run.report, tokenizer)
    data = tokenise_pairs(corpus.spend_rows(), tokenizer, longest, run.control.check, on_bad_row=settings.on_bad_row)
    training, held_out = split(data.examples, settings.eval_ratio, settings.seed)
    _tell_data(run, data, len(training), len(held_out), longest)
    tell_held_out(run.report, len(training), len(held_out), settings.eval_ratio)

    in_epoch = math.ceil(len(training) / settings.batch_size)
    position = Position() if newest is None else Position.of(newest.record)
    pace = begun(run, settings, position, in_epoch, fixed=_FIXED)

    # ---- model: as it is before the first step, which is the reference; a checkpoint's weights come later -----------
    with run.control.interruptible():
        warn = partial(run.report.log, level="warning")
        model = models.load_model(
            source, settings, None, device=world.device, tokenizer=tokenizer, steps=pace.total, warn=warn
        )
    _check_model(source, model, data, settings)
    model.train()
    run.report.log("dropout is off, and a resumed run is close to an undisturbed one, not equal: both are TRL's way")

    # ---- plan: how many rows at once -----------------------------------------------------------------------------
    used = settings if newest is None else with_kept_micro(newest.record, settings, position)
    memory = float(part(run.spec.request, "resources").get("memory_gb", 0)) or None
    plan = preflight.planned(model, used, data.lengths, longest, world.device, memory)
    position.micro = plan.settings.micro_batch_size or settings.share
    preflight.tell(run.report, plan, model, data.lengths, data.truncated, pace.total)

    # ---- trainer -------------------------------------------------------------------------------------------------
    board = Board(run.spec.output, str(run.claim.pair), position.step)
    keeper = TrlKeeper(run, settings, corpus, checkpoints, world)
    told = Telling(run, settings, world, position, board, pace, bool(held_out), keeper.keeping)
    with run.control.interruptible():
        trainer = make_trainer(run, settings.cut(position.micro), model, tokenizer, told, (training, held_out))
    trainer.told, trainer.keeper = told, keeper
    micro, trainer.rows = both(run, position)

    # ---- steps ---------------------------------------------------------------------------------------------------
    if newest is not None:
        run.report.log(f"goes on from step {newest.step}: {newest.path}")
    _steps(run, settings, trainer, micro, checkpoints, newest)

    # ---- result --------------------------------------------------------------------------------------------------
    run.report.phase("uploading")
    notes = {"memory": plan.estimate.against(peak(world.device)), "halved": position.halved, **corpus.plain()}
    notes |= {"epochs": round(position.step / in_epoch, 4)}
    if settings.early_stopping_patience is not None:
        notes |= {"best": position.best}
        _take_best(run, trainer, position, checkpoints)
    drop_reference(model)
    if settings.method == "full":
        model.to(models.stored_dtype(config))
    final = str(run.spec.output / "final")
    if world.first:
        final = write_result(run, settings.cut(position.micro), corpus, source, model, tokenizer, position, notes)
    run.report.event("artifact", {"step": position.step, "uri": final, "kind": "final"})
    world.leave()
    return Result(position.step, final)


def _steps(
    run: Run, settings: Settings, trainer: Any, micro: AtOnce, checkpoints: Checkpoints, newest: Checkpoint | None
) -> None:
    """All steps from `newest` on. Memory that runs out halves the micro batch once and goes on from where it was."""
    position = trainer.told.position
    if newest is not None and newest.step >= trainer.told.total:
        trainer._load_from_checkpoint(str(newest.path))
        return

    def attempt(rows: int) -> None:
        position.micro = rows
        take_at_once(trainer, settings.cut(rows))
        trainer.args.eval_on_start = trainer.told.held_out and position.evaluated < 0
        begin = newest if rows == first else checkpoints.of(position.step) or newest
        trainer.train(resume_from_checkpoint=None if begin is None else str(begin.path))

    first = position.micro
    try:
        if trainer.told.world.size > 1:
            micro.together(first, attempt, position.step)
        else:
            micro.attempt(first, attempt, lambda: trainer.keeper.save(trainer, position, "step"))
    except Stopped:
        trainer.keeper.save(trainer, position, "stop")
        raise run.control.stopped() from None
    except NanLoss:
        trainer.keeper.save(trainer, position, "stop")
        raise
    if run.control.stop is not None:
        raise run.control.stopped()


def _take_best(run: Run, trainer: Any, position: Position, checkpoints: Checkpoints) -> None:
    """The model as it was evaluated best; as it is where that is the last one, or where its checkpoint is gone."""
    if position.best_step in (0, position.step):
        return
    best = checkpoints.of(position.best_step)
    if best is None:
        run.report.log(f"the best checkpoint, step {position.best_step}, is gone or damaged; the result is of the last")
        return
    run.report.log(f"the held-out loss was least at step {best.step} ({position.best_loss:.4f}); the result is of that")
    position.metrics["eval_loss"] = position.best_loss
    position.result_step = best.step
    trainer._load_from_checkpoint(str(best.path))


def _check(run: Run, settings: Settings, newest: Checkpoint | None) -> None:
    """What can't be run by TRL's trainers."""
    if settings.precision == "fp16" and not run.spec.devices:
        raise ConfigError(
            "customization.precision: fp16 with a preference objective needs a GPU (transformers' own trainer, which "
            "runs it, refuses it on a CPU); give bf16 or fp32"
        )
    if settings.strategy == "fsdp":
        raise ConfigError(
            "extra_parameters.strategy: a preference objective keeps a whole model in each process; give ddp or auto"
        )
    if newest is not None:
        check_kind(newest, settings.objective)


def _check_model(source: models.Source, model: Any, data: Pairs, settings: Settings) -> None:
    models.check_vocabulary(source, model, data.examples)  # type: ignore[arg-type]
    adapter = getattr(model, "active_peft_config", None)
    if adapter is not None and adapter.is_prompt_learning:
        raise ConfigError(
            f"customization.peft.config: objective {settings.objective!r} trains no {adapter.peft_type.value}, "
            "a prompt in front of the rows; an adapter of the layers, such as LORA, would run"
        )
    if getattr(model, "trainyard_start", None) is not None:
        raise ConfigError(
            "customization.peft.config: its start changes the base, with which objective "
            f"{settings.objective!r} compares; leave init_lora_weights out"
        )


def _tell_data(run: Run, data: Pairs, training: int, held_out: int, longest: int) -> None:
    tokens = sum(pair.tokens for pair in data.examples)
    run.report.log(f"{counted(training, 'pair', 'pairs')} to train on, {held_out} held out, {tokens:,} tokens")
    for count, what in (
        (data.truncated, f"longer than {longest} tokens and cut to them"),
        (len(data.left_out), f"left out: no room for an answer within {longest} tokens"),
        (len(data.refused), "left out: refused by the chat template"),
    ):
        if count:
            run.report.log(f"{counted(count, 'row is', 'rows are')} {what}", level="warning")
