"""The text loop: device, data, model, optimizer, where to go on, steps, result. Order of the file is order of time."""

import math
import random
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator

from trainyard.trainer import schedule
from trainyard.trainer.checkpoints import Checkpoint, Checkpoints
from trainyard.trainer.failures import ConfigError, NanLoss, Stopped
from trainyard.trainer.run import Result, Run
from trainyard.trainer.text import model as models
from trainyard.trainer.text.batches import collate, epoch_batches, split
from trainyard.trainer.text.keep import Keeper, differences
from trainyard.trainer.text.loss import Loss
from trainyard.trainer.text.result import write_result
from trainyard.trainer.text.rows import Corpus
from trainyard.trainer.text.settings import Settings
from trainyard.trainer.text.state import Position, generators, load_state, restore_generators
from trainyard.trainer.text.tell import Progress, tell_data
from trainyard.trainer.text.tokens import Example, give_template, tokenise


def train(run: Run, settings: Settings, corpus: Corpus, checkpoints: Checkpoints, newest: Checkpoint | None) -> Result:
    """Train to the end, or raise what ended it."""
    # ---- device and generators -----------------------------------------------------------------------------------
    torch.set_num_threads(run.spec.threads)
    torch.set_num_interop_threads(1)
    _seed(settings.seed)
    models.quiet()
    accelerator = _accelerator(run)
    device = accelerator.device

    # ---- data: the tokenizer and the model's length are enough for it, the weights come only when it is good -----
    source = models.Source.of(run.spec.request, run.secrets)
    if source.folder is None:
        run.report.phase("downloading")
    with run.control.interruptible():
        tokenizer = models.load_tokenizer(source)
        config = models.load_config(source)
    longest = models.longest(config, settings)
    if any(row.kind == "messages" for row in corpus.rows) and give_template(tokenizer):
        run.report.log(
            "the model has no chat template; messages are written as ChatML, and the result keeps that template"
        )
    data = tokenise(corpus.rows, tokenizer, longest, run.control.check)
    training, held_out = split(data.examples, settings.eval_ratio, settings.seed)
    tell_data(run.report, data, len(training), len(held_out), longest)

    # ---- model ---------------------------------------------------------------------------------------------------
    with run.control.interruptible():
        model = models.load_model(source, settings, newest.path if newest else None)
        model = accelerator.prepare_model(model)
    models.check_vocabulary(source, model, data.examples)
    model.train()
    run.report.log(
        f"{models.trainable(model):,} of {sum(p.numel() for p in model.parameters()):,} parameters are trained"
    )
    loss = Loss(model, settings.precision, device)

    # ---- optimizer and plan --------------------------------------------------------------------------------------
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = models.parameter_groups(model, settings.weight_decay)
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    lengths = [len(e) for e in training]
    in_epoch = math.ceil(len(training) / settings.batch_size)
    total = schedule.total_steps(in_epoch, settings.num_epochs, settings.max_steps)
    warmup = schedule.warmup_steps(total, settings.warmup_steps, settings.warmup_ratio)

    # ---- where to go on ------------------------------------------------------------------------------------------
    position = Position()
    if newest is not None:
        position = Position.of(newest.record)
        load_state(model, optimizer, scaler, newest.path, device)
        restore_generators(newest.record["generators"])
        run.report.log(f"goes on from step {newest.step}: {newest.path}")
        for difference in differences(newest.record, run.spec.threads, settings, corpus):
            run.report.log(difference, level="warning")
    keeper = Keeper(run, settings, corpus, checkpoints, model, tokenizer, optimizer, scaler)
    progress = Progress(run.report, total, settings.logging_steps)
    batches = epoch_batches(lengths, settings.batch_size, settings.seed, position.epoch)

    # ---- steps ---------------------------------------------------------------------------------------------------
    while True:
        if (
            held_out
            and position.evaluated < position.step
            and _evaluation_due(position.step, total, settings.eval_steps)
        ):
            run.report.phase("evaluating")
            try:
                metrics = loss.held_out(held_out, tokenizer.pad_token_id, run.control.check)
            except Stopped:
                keeper.save(position, "stop")
                raise run.control.stopped() from None
            position.note_evaluation(metrics)
            run.report.event("validation", {"step": position.step, "metrics": metrics})
        if position.step >= total:
            break

        run.report.phase("training")
        rate = schedule.learning_rate(settings.lr_scheduler, settings.learning_rate, position.step, total, warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate
        before = generators() if settings.accumulation > 1 else {}
        batch = [training[i] for i in batches[position.index]]
        value = _gradients(run, accelerator, loss, scaler, batch, settings.micro_batch_size, tokenizer.pad_token_id)
        if value is None:  # a stop between two micro batches: the step is as if it had never begun
            restore_generators(before)
        else:
            if not math.isfinite(value):
                raise NanLoss(
                    f"the loss is {value} at step {position.step + 1} (learning rate {rate:.3g}); a lower one may hold"
                )
            if settings.max_grad_norm > 0:
                scaler.unscale_(optimizer)
                torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            scaler.step(optimizer)
            scaler.update()
            position.advance(len(batches), value)
            progress.step(position, len(batches), rate, sum(map(len, batch)))
            if position.index == 0:
                batches = epoch_batches(lengths, settings.batch_size, settings.seed, position.epoch)
        optimizer.zero_grad(set_to_none=True)

        run.control.poll()
        stop = run.control.stop is not None
        regular = settings.save_steps is not None and position.step % settings.save_steps == 0
        if stop or regular or run.control.checkpoint_wanted or position.step == total:
            keeper.save(position, "stop" if stop and not regular else "step")
        if stop:
            raise run.control.stopped()

    # ---- result --------------------------------------------------------------------------------------------------
    run.report.phase("uploading")
    if settings.method == "full":
        model.to(models.stored_dtype(config))
    final = write_result(run, settings, corpus, source, model, tokenizer, position)
    run.report.event("artifact", {"step": position.step, "uri": final, "kind": "final"})
    return Result(position.step, final)


def _gradients(
    run: Run,
    accelerator: Accelerator,
    loss: Loss,
    scaler: torch.amp.GradScaler,
    batch: Sequence[Example],
    size: int,
    pad: int,
) -> float | None:
    """Backward through a batch in micro batches; its mean loss a learned token, or None when a stop came in between.

    The sum is divided by the targets of the whole batch, so that accumulation changes nothing but memory.
    """
    targets = sum(e.targets for e in batch)
    value = torch.zeros((), device=accelerator.device)
    for at in range(0, len(batch), size):
        if at:
            run.control.poll()
            if run.control.stop is not None:
                return None
        part = loss(collate(batch[at : at + size], pad, accelerator.device)) / targets
        accelerator.backward(scaler.scale(part))
        value += part.detach()
    return value.item()


def _evaluation_due(step: int, total: int, every: int | None) -> bool:
    """At the start, at the end, and every so many steps."""
    return step in (0, total) or bool(every and step % every == 0)


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def _accelerator(run: Run) -> Accelerator:
    """One device, or the CPU; the loss does its own mixed precision, so that the logits stay small."""
    devices = run.spec.devices
    if len(devices) > 1:
        raise ConfigError(f"resources.gpus: this version trains on one device, the job was given {len(devices)}")
    if devices and not torch.cuda.is_available():
        raise ConfigError(
            f"resources.gpus: the job was given device {devices[0]}, but this torch ({torch.__version__}) sees none"
        )
    return Accelerator(cpu=not devices, mixed_precision="no")
