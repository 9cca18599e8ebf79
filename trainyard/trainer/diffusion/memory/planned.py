"""A run's look at the memory that it will need, told before its model is loaded."""

import torch

from trainyard.trainer.diffusion.job import Job
from trainyard.trainer.diffusion.memory.estimate import DeviceKind, Estimate, estimated
from trainyard.trainer.diffusion.memory.gauge import Gauge
from trainyard.trainer.failures import first_line
from trainyard.trainer.processes import World
from trainyard.trainer.text.memory.room import available

#: Bytes of weights for which it pays to look ahead, which takes seconds.
NOTABLE = 64 << 20


def planned(job: Job, world: World) -> Gauge:
    """What measures the steps; in the first process with what they are thought to need, which is told."""
    part = job.family.part
    files = [path.stat().st_size for path in job.weights.files(part) if path.suffix != ".json"]
    if not world.first or sum(files) < NOTABLE:
        return Gauge(world.device)
    with job.run.control.interruptible():
        found = _estimated(job, world)
    if found is None:
        return Gauge(world.device)
    report = job.run.report
    report.log(f"about {_gib(found.bytes)} GiB at the peak of a step", preflight={"memory": found.plain()})
    there = available(world.device, None, world.size)
    if found.bytes > there:
        report.log(f"{_gib(there)} GiB are there: it will hardly fit", level="warning")
    return Gauge(world.device, found)


def _estimated(job: Job, world: World) -> Estimate | None:
    """None where a model can't be run on shapes: that is no reason not to train it."""
    kind: DeviceKind = "cuda" if world.device.type == "cuda" else "cpu"
    try:
        with torch.random.fork_rng(devices=[]):
            return estimated(job.family, job.weights, job.options, job.gallery, device_kind=kind, processes=world.size)
    except Exception as e:  # whatever a library does not do on shapes; what is wrong with the job, loading tells
        job.run.report.log(f"how much memory a step needs is not known: {type(e).__name__}: {first_line(e)}")
        return None


def _gib(count: int) -> str:
    return f"{count / (1 << 30):.2f}"
