"""Batches as tensors, read ahead of the loop by a thread."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

import torch
from attrs import evolve

from trainyard.trainer.diffusion.cache.latents import Latents
from trainyard.trainer.diffusion.cache.texts import Prompt, Texts
from trainyard.trainer.diffusion.data.batch import Batch, Drawn
from trainyard.trainer.diffusion.data.picture import Frame
from trainyard.trainer.diffusion.families.family import Embedding
from trainyard.trainer.failures import DataError

_LOOK_SECONDS = 0.1


class Drawing(Protocol):
    """What draws the pictures of a step (`data.Epochs`); a pure function of its arguments."""

    def steps(self, epoch: int) -> int: ...

    def step(self, epoch: int, index: int, rank: int) -> list[tuple[Drawn, ...]]: ...


class Stacking(Protocol):
    """What makes a batch of embeddings (`families.family.Family`)."""

    def stacked(self, embeddings: Sequence[Embedding]) -> Embedding: ...


class Loader:
    """The micro batches of one process, step by step. Not to be asked by two threads."""

    def __init__(
        self,
        epochs: Drawing,
        latents: Latents,
        texts: Texts,
        family: Stacking,
        rank: int = 0,
        *,
        ahead: int = 10,
        device: torch.device | None = None,
        say: Callable[..., None] = lambda *_, **__: None,
    ) -> None:
        """`ahead`: steps that may lie ready; 0 reads in the loop itself. `device`: where a step's tensors are given."""
        self.waited = 0.0
        """Seconds that the loop stood waiting."""
        self._epochs, self._latents, self._texts, self._family, self._rank = epochs, latents, texts, family, rank
        self._ahead, self._device, self._say = ahead, device or torch.device("cpu"), say
        self._reading: _Reading | None = None

    def step(self, epoch: int, index: int) -> list[Batch]:
        """The micro batches of a step. Raises what went wrong when they were read."""
        began = time.perf_counter()
        if self._ahead <= 0:
            found = self.read(epoch, index)
        else:
            if self._reading is None or self._reading.next != (epoch, index):
                self.close()
                self._reading = _Reading(self, (epoch, index), self._ahead)
            found = self._reading.take()
        found = [self._placed(batch) for batch in found]
        self.waited += time.perf_counter() - began
        for remarks in (self._latents.remarks, self._texts.remarks):
            while remarks:
                self._say(remarks.popleft(), level="warning")
        return found

    def after(self, epoch: int, index: int) -> tuple[int, int]:
        """The step that follows."""
        return (epoch, index + 1) if index + 1 < self._epochs.steps(epoch) else (epoch + 1, 0)

    def read(self, epoch: int, index: int) -> list[Batch]:
        """The micro batches of a step, on the CPU."""
        return [self._batch(drawn) for drawn in self._epochs.step(epoch, index, self._rank)]

    def enter(self) -> None:
        """Called in the thread that reads: each thread has a current GPU of its own."""
        if self._device.type == "cuda":
            torch.cuda.set_device(self._device)

    def close(self) -> None:
        """End the thread; what lies ready is thrown away."""
        if self._reading is not None:
            self._reading.close()
            self._reading = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _batch(self, drawn: tuple[Drawn, ...]) -> Batch:
        pictures = [d.picture for d in drawn]
        _check_alike(drawn)
        columns = zip(*(d.references for d in drawn), strict=True)
        return self._pinned(
            Batch(
                drawn=drawn,
                latents=self._latents.read(pictures),
                texts=self._family.stacked(self._texts.read([Prompt(d.caption, d.picture.dataset) for d in drawn])),
                sizes=torch.tensor([_size(p.frame) for p in pictures]),
                references=tuple(self._latents.read(column) for column in columns),
            )
        )

    def _pinned(self, batch: Batch) -> Batch:
        return _each(batch, torch.Tensor.pin_memory) if self._device.type == "cuda" else batch

    def _placed(self, batch: Batch) -> Batch:
        if self._device.type == "cpu":
            return batch
        return _each(batch, lambda tensor: tensor.to(self._device, non_blocking=True))


class _Reading:
    """A thread that reads steps in their order, until it is as far ahead as it may be."""

    def __init__(self, loader: Loader, first: tuple[int, int], ahead: int) -> None:
        self.next = first
        self._loader = loader
        self._ready: queue.Queue[tuple[list[Batch], tuple[int, int]] | BaseException] = queue.Queue(ahead)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(first,), name="loader", daemon=True)
        self._thread.start()

    def take(self) -> list[Batch]:
        found = self._ready.get()
        if isinstance(found, BaseException):
            self._ready.put(found)  # whoever asks again is told again
            raise found
        batches, self.next = found
        return batches

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _run(self, at: tuple[int, int]) -> None:
        try:
            self._loader.enter()
            while not self._over.is_set():
                batches = self._loader.read(*at)
                at = self._loader.after(*at)
                self._put((batches, at))
        except BaseException as e:  # raised in the loop
            self._put(e)

    def _put(self, found: tuple[list[Batch], tuple[int, int]] | BaseException) -> None:
        while not self._over.is_set():
            try:
                self._ready.put(found, timeout=_LOOK_SECONDS)
                return
            except queue.Full:
                continue


def _check_alike(drawn: Sequence[Drawn]) -> None:
    """Raises `DataError` where the pictures can't be stacked."""
    shapes = {(d.picture.frame.bucket, tuple(r.frame.bucket for r in d.references)) for d in drawn}
    if len(shapes) > 1:
        raise DataError(
            "a batch holds pictures of several sizes, which can't be computed at once: "
            + ", ".join(f"{d.picture.path} {d.picture.frame.bucket}" for d in drawn)
        )


def _size(frame: Frame) -> tuple[int, ...]:
    width, height = frame.original
    return height, width, frame.top, frame.left, frame.height, frame.width


def _each(batch: Batch, change: Callable[[torch.Tensor], Any]) -> Batch:
    return evolve(
        batch,
        latents=change(batch.latents),
        texts={name: change(tensor) for name, tensor in batch.texts.items()},
        sizes=change(batch.sizes),
        references=tuple(change(reference) for reference in batch.references),
    )
