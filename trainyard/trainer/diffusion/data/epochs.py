"""Which pictures meet in which step: a pure function of seed, epoch and step."""

from bisect import bisect_right
from collections.abc import Sequence
from threading import RLock
from typing import TYPE_CHECKING

import numpy as np
from attrs import define, field, frozen

from trainyard.trainer.diffusion.data.batch import Drawn
from trainyard.trainer.diffusion.data.chance import chance
from trainyard.trainer.diffusion.data.image_set import NEVER
from trainyard.trainer.diffusion.data.pools import Pool, generator, pools
from trainyard.trainer.failures import DataError

if TYPE_CHECKING:
    from schemas.diffusion import Options
    from trainyard.trainer.diffusion.data.gallery import Gallery


@frozen(eq=False)
class _Plan:
    """The micro batches of an epoch in their order, by number; step i takes those from `begins[i]` to `begins[i+1]`."""

    order: np.ndarray
    begins: list[int]


@define(eq=False)
class Epochs:
    """The steps of every epoch, epochs and steps counted from 0.

    A micro batch is of one bucket of one set. A step takes `gradient_accumulation_steps` of them in every process. What
    does not come out even: the last micro batch of a bucket has what is left; the last step of an epoch has the micro
    batches that are left, halved until every process has equally many, and where there are fewer pictures than
    processes some are shown twice. So nothing is left out, and an epoch has as many steps in every process.

    A set that begins within an epoch (`start_step`) gives all its pictures to the rest of it; one that is over
    (`end_step`) takes those with it that were not shown. Threads may ask at once.
    """

    gallery: "Gallery"
    options: "Options"
    seed: int
    processes: int = 1
    _pools: list[Pool] = field(init=False)
    #: Number of the first micro batch of each pool, and of all together.
    _offsets: list[int] = field(init=False)
    _plans: dict[int, _Plan] = field(factory=dict, init=False)
    #: Steps before each epoch, as far as it was asked for.
    _starts: list[int] = field(factory=lambda: [0], init=False)
    _lock: RLock = field(factory=RLock, init=False)

    def __attrs_post_init__(self) -> None:
        self._pools = pools(self.gallery, self.options, self.seed)
        self._offsets = [0, *np.cumsum([pool.batches for pool in self._pools]).tolist()]
        if self.options.max_train_steps:
            self.at(self.options.max_train_steps - 1)

    def __len__(self) -> int:
        return self.steps(0)

    def steps(self, epoch: int) -> int:
        """Steps of an epoch; sets that begin or end make epochs differ. 0 where no set is trained on in it."""
        with self._lock:
            before = self.start(epoch)
            known = epoch + 1 < len(self._starts)
            return self._starts[epoch + 1] - before if known else self._length(epoch, before)

    def start(self, epoch: int) -> int:
        """Steps before an epoch. Raises `DataError` where one of the epochs before it has none."""
        with self._lock:
            while True:
                last, before = len(self._starts) - 1, self._starts[-1]
                if epoch <= last:
                    return self._starts[epoch]
                steps = self._length(last, before)
                if not steps:
                    raise self._nothing(last, before)
                if self._settled(last, before):
                    return before + (epoch - last) * steps
                self._starts.append(before + steps)

    def at(self, step: int) -> tuple[int, int]:
        """Epoch and index of the step that comes after so many. Raises `DataError` where the sets are over before."""
        with self._lock:
            while self._starts[-1] <= step:
                last, before = len(self._starts) - 1, self._starts[-1]
                steps = self._length(last, before)
                if not steps:
                    raise self._nothing(last, before)
                if self._settled(last, before):
                    more, index = divmod(step - before, steps)
                    return last + more, index
                self._starts.append(before + steps)
            epoch = bisect_right(self._starts, step) - 1
            return epoch, step - self._starts[epoch]

    def step(self, epoch: int, index: int, rank: int) -> list[tuple[Drawn, ...]]:
        """The micro batches that one process takes in a step: as many in every process."""
        batches, found, first = self._batches(epoch, index), [], 0
        for number, batch in enumerate(batches):
            if number % self.processes == rank:
                found.append(self._drawn(batch, f"{self.seed} {epoch} {index}", number, first))
            first += len(batch)
        return found

    def samples(self, epoch: int, index: int) -> int:
        """Pictures of a step, of all processes together."""
        return sum(map(len, self._batches(epoch, index)))

    def _batches(self, epoch: int, index: int) -> list[list[int]]:
        with self._lock:
            plan = self._plan(epoch)
            if len(plan.begins) == 1:
                raise self._nothing(epoch, self.start(epoch))
            numbers = plan.order[plan.begins[index] : plan.begins[index + 1]].tolist()
            return _even([self._batch(epoch, number) for number in numbers], self.processes)

    def _batch(self, epoch: int, number: int) -> list[int]:
        at = bisect_right(self._offsets, number) - 1
        return self._pools[at].batch(epoch, number - self._offsets[at])

    def _drawn(self, batch: Sequence[int], seed: str, number: int, first: int) -> tuple[Drawn, ...]:
        """The pictures of micro batch `number` of a step; `first` is the place of its first one in the step."""
        chosen = chance(f"{seed} references {number}")
        drawn = []
        for place, index in enumerate(batch, first):
            picture = self.gallery.pictures[index]
            caption = picture.captions[int(chance(f"{seed} caption {place}") * len(picture.captions))]
            if chance(f"{seed} dropped {place}") < self.options.caption_dropout_probability:
                caption = ""
            references = picture.references
            if self.options.conditioning_multidataset_sampling == "random" and references:
                references = (references[int(chosen * len(references))],)
            drawn.append(Drawn(picture, caption, references))
        return tuple(drawn)

    def _plan(self, epoch: int) -> _Plan:
        """The plans of two epochs are kept: the loader reads ahead into the next one."""
        if epoch not in self._plans:
            start = self.start(epoch)
            while len(self._plans) > 1:
                self._plans.pop(next(iter(self._plans)))
            self._plans[epoch] = self._planned(epoch, start)
        return self._plans[epoch]

    def _planned(self, epoch: int, start: int) -> _Plan:
        """Steps until all is taken; where a set begins or is over on the way, what is left is shuffled anew."""
        shuffled, step, active = generator(f"{self.seed} {epoch}").permutation, start, self._active(epoch, start)
        left, orders, begins = shuffled(self._numbers(active)), [np.empty(0, np.int64)], [0]
        while len(left):
            steps = min(-(-len(left) // self._size), self._change(step) - step)
            taken, left = left[: steps * self._size], left[steps * self._size :]
            orders.append(taken)
            begins += [begins[-1] + min((i + 1) * self._size, len(taken)) for i in range(steps)]
            step += steps
            now = self._active(epoch, step)
            if len(left) and now != active:
                left = np.concatenate([left[np.isin(left, self._numbers(now))], self._numbers(now - active)])
                left, active = shuffled(left), now
        return _Plan(np.concatenate(orders), begins)

    def _length(self, epoch: int, start: int) -> int:
        """Steps of an epoch that begins after so many; planned only where a set begins or is over within it."""
        batches = sum(self._pools[i].batches for i in self._active(epoch, start))
        steps = -(-batches // self._size)
        if self._change(start) >= start + steps:
            return steps
        return len(self._planned(epoch, start).begins) - 1

    def _settled(self, epoch: int, step: int) -> bool:
        """Whether no set begins or ends any more, so that all epochs from this one on have one length."""
        sets = self.gallery.sets
        epochs = {edge for one in sets for edge in (one.epochs[0] - 1, one.epochs[1]) if edge < NEVER}
        return epoch >= max(epochs) and self._change(step) >= NEVER

    def _nothing(self, epoch: int, step: int) -> DataError:
        return DataError(
            f"{self.gallery.sets[0].at.partition('[')[0]}: after step {step:,} no set is trained on in epoch "
            f"{epoch + 1}: see start_epoch, start_step, end_epoch and end_step"
        )

    @property
    def _size(self) -> int:
        """Micro batches of a step."""
        return self.options.gradient_accumulation_steps * self.processes

    def _active(self, epoch: int, step: int) -> set[int]:
        """Numbers of the pools that are taken from in the step after so many."""
        return {i for i, pool in enumerate(self._pools) if pool.set.active(epoch + 1, step + 1)}

    def _numbers(self, active: set[int]) -> np.ndarray:
        """The micro batches of some pools."""
        ranges = [np.arange(self._offsets[i], self._offsets[i + 1]) for i in sorted(active)]
        return np.concatenate([np.empty(0, np.int64), *ranges])

    def _change(self, step: int) -> int:
        """How many steps there are before the next at which a set begins or is over."""
        changes = {edge for one in self.gallery.sets for edge in (one.steps[0] - 1, one.steps[1])}
        return min((edge for edge in changes if edge > step), default=NEVER)


def _even(batches: list[list[int]], processes: int) -> list[list[int]]:
    """As many micro batches for every process: the largest are halved, then pictures are shown again."""
    batches, shown = list(batches), 0
    while len(batches) % processes:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        batch = batches[largest]
        if len(batch) > 1:
            half = len(batch) // 2
            batches[largest : largest + 1] = [batch[:half], batch[half:]]
        else:
            batches.append(batches[shown])
            shown += 1
    return batches
