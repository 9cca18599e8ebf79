"""What a test sees of the steps of an epoch."""

from collections import Counter


def batches(epochs, epoch=0, index=None):
    """The micro batches of a step of all processes, or of all steps of an epoch, as lists of `set/picture`."""
    indices = range(epochs.steps(epoch)) if index is None else [index]
    return [
        [f"{drawn.picture.dataset}/{drawn.picture.path.stem}" for drawn in batch]
        for i in indices
        for rank in range(epochs.processes)
        for batch in epochs.step(epoch, i, rank)
    ]


def counted(epochs, epoch=0):
    """How often each picture comes in an epoch."""
    return Counter(name for batch in batches(epochs, epoch) for name in batch)


def of_set(epochs, id, epoch=0):
    """How many pictures of a set come in an epoch."""
    return sum(count for name, count in counted(epochs, epoch).items() if name.startswith(f"{id}/"))
