"""What a run may have where it runs: processors, memory, GPUs, installed packages."""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from attrs import frozen

from common.devices import Device

_TRAINER_NEEDS = ("torch", "transformers", "peft", "accelerate")
_SOME_NEED = (
    *("bitsandbytes", "boto3", "datasets", "obstore", "pyarrow", "trl"),
    *("diffusers", "lycoris", "optimi", "optimum", "PIL", "tensorboardX", "torchao", "wandb"),
)


@frozen(kw_only=True)
class Machine:
    """Processors and memory that a run may use on a machine, its GPUs, and the packages that are not installed.

    Without those in `lacking` nothing is trained; those in `absent` are needed by some jobs only. A run has `nodes`
    machines alike. `backend` and `called` are the words for it in what people are told.
    """

    cpus: int
    memory_gib: float
    devices: tuple[Device, ...] = ()
    lacking: tuple[str, ...] = ()
    absent: frozenset[str] = frozenset()
    nodes: int = 1
    backend: str = "local"
    called: str = "this machine"

    @property
    def kinds(self) -> Mapping[str, frozenset[str]]:
        """Of a machine with several kinds of GPU each kind's devices, under the name that a job's needs have for it."""
        names = sorted({d.name for d in self.devices})
        if len(names) < 2:
            return {}
        return {f"gpu:{name}": frozenset(d.index for d in self.devices if d.name == name) for name in names}

    def matching(self, gpu_type: str | None) -> tuple[str, ...]:
        """The indices of the devices that have `gpu_type` in their name; of all for None."""
        return tuple(d.index for d in self.devices if _is(d, gpu_type))

    def fitting(self, gpu_type: str | None, *, bf16: bool) -> tuple[str, ...]:
        """The indices of the devices of a type, with `bf16` only those that compute in it."""
        return tuple(d.index for d in self.devices if _is(d, gpu_type) and (d.has_bf16 or not bf16))


def _is(device: Device, gpu_type: str | None) -> bool:
    return (gpu_type or "").casefold() in device.name.casefold()


def missing_packages() -> tuple[tuple[str, ...], frozenset[str]]:
    """What is not installed where this is asked: of what each training needs, and of what some need."""
    return _absent(_TRAINER_NEEDS), frozenset(_absent(_SOME_NEED))


def _absent(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name for name in names if find_spec(name) is None)
