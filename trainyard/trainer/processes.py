"""The processes of one run as the loop sees them: who this is, and the few things they do together."""

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from attrs import frozen

from trainyard.trainer.claim import Claim, Spec
from trainyard.trainer.failures import ConfigError

#: The first process writes checkpoints and results while the others wait; a dead one is noticed by the launcher.
PATIENCE = timedelta(hours=2)


@frozen
class World:
    """`size` processes, of which this is `rank`, on `device`. All of them call its methods alike."""

    device: torch.device
    rank: int = 0
    size: int = 1
    #: Over the CPU, so that a wish or a name waits for no queue of a device.
    talk: dist.ProcessGroup | None = None

    @classmethod
    def alone(cls, device: torch.device) -> "World":
        """One process."""
        return cls(device)

    @classmethod
    def join(cls, claim: Claim, spec: Spec) -> "World":
        """The world of this run; with several processes it comes up when all of them are here."""
        if spec.devices and torch.cuda.device_count() < len(spec.devices):
            raise ConfigError(
                f"resources.gpus: the job was given device{'s' * (len(spec.devices) > 1)} {', '.join(spec.devices)}, "
                f"but this torch ({torch.__version__}) sees {torch.cuda.device_count() or 'none'}"
            )
        device = torch.device("cpu")
        if spec.devices:
            device = torch.device("cuda", int(os.environ["LOCAL_RANK"]) if claim.launched else 0)
            torch.cuda.set_device(device)
        if not claim.launched:
            return cls.alone(device)
        if spec.devices:
            dist.init_process_group("cpu:gloo,cuda:nccl", timeout=PATIENCE, device_id=device)
        else:
            dist.init_process_group("gloo", timeout=PATIENCE)
        talk = dist.new_group(backend="gloo", timeout=PATIENCE) if spec.devices else dist.group.WORLD
        return cls(device, claim.rank, claim.size, talk)

    @property
    def first(self) -> bool:
        """Whether this is the one that tells and writes."""
        return self.rank == 0

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """For each flag, whether some process has it set."""
        if self.size == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.uint8)
        dist.all_reduce(votes, dist.ReduceOp.MAX, group=self.talk)
        return tuple(bool(vote) for vote in votes.tolist())

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def share(self, thing: Any) -> Any:
        """What the first process has."""
        if self.size == 1:
            return thing
        things = [thing]
        dist.broadcast_object_list(things, src=0, group=self.talk, device=torch.device("cpu"))
        return things[0]

    def gather(self, thing: Any) -> list[Any]:
        """What each process has, by rank; empty but in the first."""
        if self.size == 1:
            return [thing]
        things: list[Any] | None = [None] * self.size if self.first else None
        dist.gather_object(thing, things, dst=0, group=self.talk)
        return things or []

    def barrier(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.barrier(group=self.talk)

    def leave(self) -> None:
        """The end of a good run: until all are here, then the connections are closed."""
        if self.size > 1:
            self.barrier()
            dist.destroy_process_group()
