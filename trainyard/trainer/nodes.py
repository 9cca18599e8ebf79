"""Several machines for one run, under Slurm: `srun` starts `python -m trainyard.trainer.nodes` on each of them.

The first machine has the guard, the launcher that tells the run's events, and torch's rendezvous. What the processes
tell each other of their ends lies in the attempt's folder, which all machines share.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

from attrs import frozen

from trainyard.trainer.claim import Claim, Spec
from trainyard.trainer.failures import ConfigError

_LOOK_SECONDS = 0.1
_ALL = range(1, signal.NSIG)


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
    command = [
        *("srun", f"--nodes={spec.nodes}", f"--ntasks={spec.nodes}", "--ntasks-per-node=1", "--export=ALL"),
        *(f"--cpus-per-task={os.environ.get('SLURM_CPUS_PER_TASK', '1')}", "--mpi=none", "--input=none"),
        *("--kill-on-bad-exit=0", "--wait=0", "--", sys.executable, "-P", "-m", __name__),
        *(str(claim.folder.path), str(_free_port())),
    ]
    try:
        agents = subprocess.Popen(command, preexec_fn=_take_signals)
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
    spec = Spec.read(claim)
    env = os.environ
    among = Rendezvous(int(env["SLURM_NODEID"]), spec.nodes, env["SLURM_LAUNCH_NODE_IPADDR"], int(port))
    _, failed = on_this_machine(claim, spec, Ranks.of(claim.own), among)
    return 1 if failed else 0


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
