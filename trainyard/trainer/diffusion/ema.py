"""A running mean of the weights, which often makes better pictures than the weights themselves."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch

from schemas.diffusion import Options
from trainyard.trainer.diffusion.chunks import chunks
from trainyard.trainer.diffusion.model.trained import load_into, save_tensors

FILE = "ema.safetensors"
#: Bytes of copies in page-locked memory.
_MOST_PINNED = 4 << 30
#: Numbers that are made fp32 at a time: memory that is asked for once, where all at once costs most of the time.
_PIECE = 1 << 20


class Average:
    """The mean of parameters over the steps, in fp32: of each update `decay` is kept and the rest is new.

    Through `warmup` steps it is the weights themselves. It lies on the CPU or beside the weights. On the CPU, with the
    weights on an accelerator, it is computed while the next step is: it holds the same numbers, whoever looks at it.
    """

    def __init__(
        self, parameters: Mapping[str, torch.nn.Parameter], decay: float, every: int, warmup: int, device: torch.device
    ) -> None:
        self._parameters, self._decay, self._every, self._warmup = parameters, decay, every, warmup
        self._mean = {n: p.detach().to(device, torch.float32, copy=True) for n, p in parameters.items()}
        away = any(p.device.type != mean.device.type for p, mean in self._rows())
        self._behind = Behind() if away and small(parameters) else None

    @classmethod
    def of(cls, parameters: Mapping[str, torch.nn.Parameter], options: Options, device: torch.device) -> "Average":
        """As the options say."""
        lies_on = device if options.ema_device == "accelerator" else torch.device("cpu")
        return cls(parameters, options.ema_decay, options.ema_update_interval, options.ema_warmup_steps, lies_on)

    @property
    def bytes(self) -> int:
        """What it takes, in memory as in a checkpoint."""
        return sum(mean.numel() * mean.element_size() for mean in self._mean.values())

    def update(self, step: int) -> None:
        """Step number `step` (1 is the first) was taken."""
        if step % self._every and step > self._warmup:
            return
        new = 1.0 if step <= self._warmup else 1.0 - self._decay
        if self._behind is not None:
            self._behind.begin(self._rows(), new)
            return
        for piece in chunks((mean, parameter) for parameter, mean in self._rows()):
            means = [mean for mean, _ in piece]
            torch._foreach_lerp_(means, [parameter.to(mean) for mean, parameter in piece], new)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """The parameters hold the mean, and afterwards again what they held."""
        kept = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._show(self._settled())
        try:
            yield
        finally:
            self._show(kept)

    def save(self, folder: Path) -> None:
        """Into a checkpoint."""
        save_tensors(self._settled(), folder / FILE)

    def load(self, folder: Path) -> None:
        """What `save` wrote."""
        load_into(self._settled(), [folder / FILE])

    def _rows(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Parameter and mean."""
        return [(self._parameters[name].detach(), mean) for name, mean in self._mean.items()]

    def _settled(self) -> dict[str, torch.Tensor]:
        if self._behind is not None:
            self._behind.settle()
        return self._mean

    def _show(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.detach().copy_(values[name])


class Behind:
    """Updates means on the CPU behind the training's back: in a thread, from copies of what they shall come nearer to.

    The copies are made in the order of the accelerator's work, so that no later step is in them, into memory that it
    writes by itself: nobody waits for them but the thread.
    """

    def __init__(self) -> None:
        self._copies: list[torch.Tensor] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ema")
        self._under_way: Future[None] | None = None

    def begin(self, rows: list[tuple[torch.Tensor, torch.Tensor]], new: float) -> None:
        """Let each mean come nearer to its parameter, as it is now, by the share `new`, once the last time is over."""
        self.settle()
        if not self._copies:
            self._copies = [_room(parameter) for parameter, _ in rows]
        for copy, (parameter, _) in zip(self._copies, rows, strict=True):
            copy.copy_(parameter, non_blocking=True)
        there = None
        if rows[0][0].device.type == "cuda":
            there = torch.cuda.Event()
            there.record(torch.cuda.current_stream(rows[0][0].device))
        self._under_way = self._thread.submit(self._update, [mean for _, mean in rows], new, there)

    def settle(self) -> None:
        """Wait for what is under way; raises what it raised."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()

    def _update(self, means: list[torch.Tensor], new: float, there: torch.cuda.Event | None) -> None:
        if there is not None:
            there.synchronize()
        with torch.no_grad():
            for mean, copy in zip(means, self._copies, strict=True):
                whole = mean.numel() if copy.dtype is mean.dtype or not mean.is_contiguous() else _PIECE
                for part, nearer_to in zip(_cut(mean, whole), _cut(copy, whole), strict=True):
                    part.lerp_(nearer_to.float(), new)


def small(parameters: Mapping[str, torch.Tensor]) -> bool:
    """Whether a copy of all of them may lie in pinned memory, where each takes a power of two."""
    return sum(p.numel() * p.element_size() for p in parameters.values()) <= _MOST_PINNED


def _cut(tensor: torch.Tensor, size: int) -> tuple[torch.Tensor, ...]:
    return tensor.view(-1).split(size) if size < tensor.numel() else (tensor,)


def _room(parameter: torch.Tensor) -> torch.Tensor:
    """For a copy on the CPU; an accelerator writes to pinned memory by itself."""
    away = parameter.device.type != "cpu"
    return torch.empty(parameter.shape, dtype=parameter.dtype, pin_memory=away)
