"""How a batch is cut: `batch_size` = `micro_batch_size` × `gradient_accumulation_steps`, in one process."""

from collections.abc import Iterator

from attrs import frozen

from schemas.train import TrainRequest

_MOST_ROWS = {"gpu": 8, "cpu": 4}
_SUGGESTED = 1024


@frozen
class Batch:
    """Rows of a step, rows that are taken at once, and how often they are."""

    size: int
    micro: int
    accumulation: int


def batch_errors(request: TrainRequest) -> Iterator[tuple[str, str]]:
    """The names of `tuning_parameters` whose asked values do not go together, with values that do."""
    tuning = request.tuning_parameters
    if "tuning_parameters.batch_size" not in request.asked:
        return
    size, micro, accumulation = tuning.batch_size, tuning.micro_batch_size, tuning.gradient_accumulation_steps
    if micro and accumulation:
        if micro * accumulation != size:
            product = f"micro_batch_size {micro} × gradient_accumulation_steps {accumulation}"
            yield "batch_size", f"{size} is not {product}; batch_size: {micro * accumulation} would run"
        return
    for name, part in (("micro_batch_size", micro), ("gradient_accumulation_steps", accumulation)):
        if part and size % part:
            fits = _divisor(size, min(part, _SUGGESTED))
            yield name, f"batch_size {size} is not a multiple of {part}; {name}: {fits} would run"


def choose_batch(request: TrainRequest, lane: str) -> Batch:
    """The three numbers of a valid request: what was asked for is kept, the rest follows."""
    tuning = request.tuning_parameters
    size, micro, accumulation = tuning.batch_size, tuning.micro_batch_size, tuning.gradient_accumulation_steps
    if micro and accumulation:
        return Batch(micro * accumulation, micro, accumulation)
    if part := micro or accumulation:
        size = max(size // part, 1) * part
    micro = micro or (size // accumulation if accumulation else _divisor(size, _MOST_ROWS[lane]))
    return Batch(size, micro, size // micro)


def _divisor(size: int, at_most: int) -> int:
    """The largest divisor of `size` up to a number."""
    return next(n for n in range(min(size, at_most), 0, -1) if size % n == 0)
