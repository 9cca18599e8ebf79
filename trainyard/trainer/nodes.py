"""Several machines for one run, under Slurm: `srun` starts `python -m trainyard.trainer.nodes` on each of them.

The first machine has the guard, the launcher that tells the run's events, and torch's rendezvous. What the processes
tell each other of their ends lies in the attempt's folder, which all machines share. So do the secrets: `srun` gets
none, and each machine reads them there, as the guard does on the first.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from attrs import frozen

from common.folder import STACKS
from trainyard.trainer.claim import Claim, Spec
from trainyard.trainer.failures import ConfigError

_LOOK_SECONDS = 0.1
_ALL = signal.valid_signals()
_MODULE = "trainyard.trainer.nodes"


@frozen
class Rendezvous:
    """Where the machines of a run meet, and which of them this is."""

    node: int
    nodes: int
    host: str
    port: int

    def ranks(self, on_each: int) -> range:
        """The processes of this machine."""
        return range(self.node * on_each, (self.node + 1) * on_each)


def start(claim: Claim, spec: Spec, meanwhile: Callable[[float], None]) -> int:
    """An agent on each machine, until all have left; the exit status of `srun`. Raises `ConfigError`."""
    srun = shutil.which("srun") or "srun"
    command = [
        *(srun, f"--nodes={spec.nodes}", f"--ntasks={spec.nodes}", "--ntasks-per-node=1", "--export=ALL"),
        *(f"--cpus-per-task={os.environ.get('SLURM_CPUS_PER_TASK', '1')}", "--mpi=none", "--input=none"),
        *("--kill-on-bad-exit=0", "--wait=0", "--", sys.executable, "-P", "-m", _MODULE),
        *(str(claim.folder.path), str(_free_port())),
    ]
    secret = _secrets(claim)
    carried = {name: value for name, value in os.environ.items() if secret.get(name) != value}
    try:
        agents = subprocess.Popen(command, preexec_fn=_take_signals, env=carried)
    except OSError as e:
        raise ConfigError(f"extra_parameters.nodes: srun can't be started on the first machine: {e}") from e
    while (code := agents.poll()) is None:
        meanwhile(_LOOK_SECONDS)
    return code


def main(argv: list[str]) -> int:
    """The agent of one machine: its processes, until all are over."""
    from trainyard.trainer.launch import FOR_RANKS, on_this_machine
    from trainyard.trainer.ranks import Ranks

    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_RANKS)
    folder, port = argv
    claim = Claim.read(folder)
    env = os.environ
    if secret := {name: value for name, value in _secrets(claim).items() if name not in env}:
        own = [sys.executable, "-P", "-m", _MODULE, *argv]
        os.execve(sys.executable, own, {**env, **secret})  # noqa: S606 - itself, so that all of it heeds them
    spec = Spec.read(claim)
    among = Rendezvous(int(env["SLURM_NODEID"]), spec.nodes, env["SLURM_LAUNCH_NODE_IPADDR"], int(port))
    _, failed = on_this_machine(claim, spec, Ranks.of(claim.own), among)
    return 1 if failed else 0


def stacks_asked(ranks: Path) -> int:
    """When the stacks of every process were last asked for; 0: never. The guard reaches the first machine's alone."""
    try:
        return (ranks / STACKS).stat().st_mtime_ns
    except OSError:
        return 0


def _secrets(claim: Claim) -> dict[str, str]:
    """What the guard put into the run's environment of the attempt's secrets. Raises `ConfigError`."""
    path = claim.folder.secrets(claim.pair.attempt)
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as e:
        raise ConfigError(f"{path} can't be read: {type(e).__name__}") from e
    token = found.get("job_token") if found.get("events_url") else None
    return {**({"TRAINYARD_JOB_TOKEN": token} if token else {}), **(found.get("env") or {})}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _take_signals() -> None:
    """`srun` is no process of the run: it takes what the launcher keeps back for those."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL)


if __name__ == "__main__":
    sys.stdout.flush()
    os._exit(main(sys.argv[1:]))
