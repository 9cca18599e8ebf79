"""How a batch is cut: `batch_size` = `micro_batch_size` × `gradient_accumulation_steps` × processes.

Where nobody asked for a micro batch it stays open: the trainer takes the largest that fits.
"""

from collections.abc import Iterator

from attrs import frozen

from schemas.train import TrainRequest

_SUGGESTED = 1024


@frozen
class Batch:
    """Rows of a step over all processes; rows that a process takes at once, and how often it does (None: open)."""

    size: int
    micro: int | None
    accumulation: int | None


def batch_errors(request: TrainRequest, processes: int) -> Iterator[tuple[str, str]]:
    """The names of `tuning_parameters` whose asked values do not go together, with values that do."""
    tuning = request.tuning_parameters
    if "tuning_parameters.batch_size" not in request.asked:
        return
    size, micro, accumulation = tuning.batch_size, tuning.micro_batch_size, tuning.gradient_accumulation_steps
    times = f" × {processes} processes" if processes > 1 else ""
    if micro and accumulation:
        if micro * accumulation * processes != size:
            product = f"micro_batch_size {micro} × gradient_accumulation_steps {accumulation}{times}"
            yield "batch_size", f"{size} is not {product}; batch_size: {micro * accumulation * processes} would run"
        return
    share, rest = divmod(size, processes)
    if rest:
        fits = max(share, 1) * processes
        yield "batch_size", f"{size} is not a multiple of the {processes} processes; batch_size: {fits} would run"
        return
    for name, part in (("micro_batch_size", micro), ("gradient_accumulation_steps", accumulation)):
        if part and share % part:
            fits = _divisor(share, min(part, _SUGGESTED))
            yield name, f"batch_size {size} is not a multiple of {part}{times}; {name}: {fits} would run"


def choose_batch(request: TrainRequest, processes: int) -> Batch:
    """The three numbers of a valid request: what was asked for is kept, what follows from it is filled in."""
    tuning = request.tuning_parameters
    size, micro, accumulation = tuning.batch_size, tuning.micro_batch_size, tuning.gradient_accumulation_steps
    if micro and accumulation:
        return Batch(micro * accumulation * processes, micro, accumulation)
    part = micro or accumulation
    share = max(size // processes // (part or 1), 1) * (part or 1)
    return Batch(
        share * processes,
        share // accumulation if accumulation else micro,
        share // micro if micro else accumulation,
    )


def _divisor(size: int, at_most: int) -> int:
    """The largest divisor of `size` up to a number."""
    return next(n for n in range(min(size, at_most), 0, -1) if size % n == 0)
