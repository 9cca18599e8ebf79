"""Several processes for one run: torch's launcher, in this process, and what it lacks.

torch's launcher turns every failure into 1, tells its workers nothing of each other, ends on SIGTERM by itself, and
gives survivors 30 s. Here the run leaves as the first process did that failed, survivors hear who it was and are killed
after `_SURVIVORS_SECONDS`, and signals are for the processes: they are blocked before any of them starts, so that none
is lost between its start and its handlers. Of several machines each has such a launcher (`nodes.py`).
"""

import logging
import os
import resource
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from common.exits import Exit
from trainyard.trainer import nodes
from trainyard.trainer.claim import LAUNCHED, Claim, Spec
from trainyard.trainer.nodes import Rendezvous
from trainyard.trainer.ranks import Ended, Ranks

FOR_RANKS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_SURVIVORS_SECONDS = 5.0
_TICK = 0.02
_REAPED_EVERY = 0.3
"""Long against `_TICK`, so that the warden sees a death before torch's launcher takes its status."""
log = logging.getLogger("trainyard.trainer")


@frozen
class Outcome:
    """How the run ended: a code, or the signal that ended the first of its processes."""

    code: int
    signal: int | None = None
    #: What happened, where the first process is not there any more to tell it.
    untold: str | None = None


def launch(claim: Claim, spec: Spec, stop_wanted: Callable[[], bool]) -> Outcome:
    """Run the job in `spec.processes` processes and wait for all of them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FOR_RANKS)
    if stop_wanted():
        return Outcome(Exit.STOPPED_UNSAVED)
    ranks = Ranks.of(claim.own)
    ranks.folder.mkdir(mode=0o700)
    if spec.nodes > 1:
        return _on_nodes(claim, spec, ranks)
    first, failed = on_this_machine(claim, spec, ranks)
    return _outcome(ranks, first, failed) if failed else Outcome(Exit.DONE)


def on_this_machine(
    claim: Claim, spec: Spec, ranks: Ranks, among: Rendezvous | None = None
) -> tuple[Ended | None, dict[int, Any]]:
    """The processes of this machine until all are over: the first that ended badly, and torch's failures by rank."""
    _prepare_environment(spec, among)
    warden = _Warden(ranks, spec.on_each, among)
    threading.Thread(target=warden.watch, name="warden", daemon=True).start()
    failed = _by_torch(claim, spec, among)
    if failed and among is not None:
        name_seen(ranks, failed)
    return warden.first, failed


def name_seen(ranks: Ranks, failed: Mapping[int, Any]) -> None:
    """Name the process that only torch's launcher saw end: no other machine knows of it."""
    first = ranks.first(0)
    if first is not None and first.known:
        return
    rank = min(failed, key=lambda rank: float(failed[rank].timestamp))
    told = ranks.left(rank)
    if told is None or not told.bereaved:
        ranks.name_first(told if told is not None and told.badly else _seen(rank, failed[rank].exitcode))


def _on_nodes(claim: Claim, spec: Spec, ranks: Ranks) -> Outcome:
    """An agent on each machine; how the run ended is told by the files that the processes share."""
    here = _Warden(ranks, spec.on_each, Rendezvous(0, spec.nodes, "", 0))
    code = nodes.start(claim, spec, here.take)
    if code == 0:
        return Outcome(Exit.DONE)
    if (first := ranks.first(_SURVIVORS_SECONDS) or ranks.earliest()) is None:
        return Outcome(Exit.INTERNAL, untold=f"srun left with {code} before any process could tell why; see the log")
    return _outcome(ranks, first, {})


def leave_by(number: int) -> None:
    """End this process by a signal, as the run's first process was; the launcher needs no core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (number,))
    os.kill(os.getpid(), number)


def _prepare_environment(spec: Spec, among: Rendezvous | None) -> None:
    """What torch, gloo and accelerate read in each process; what was said by the job stays."""
    os.environ[LAUNCHED] = "1"
    ours = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "no", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    if not spec.devices:
        ours["ACCELERATE_USE_CPU"] = "true"
    if not spec.devices and (among is None or among.host.startswith("127.")):
        ours["GLOO_SOCKET_IFNAME"] = "lo"  # else gloo takes that of the host's name, which need not have an address
    for name, value in ours.items():
        os.environ.setdefault(name, value)


def _by_torch(claim: Claim, spec: Spec, among: Rendezvous | None) -> dict[int, Any]:
    """torch's launcher with an agent of this machine; its failures by rank, none when all went well."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=among.nodes if among else 1,
        max_nodes=among.nodes if among else 1,
        nproc_per_node=spec.on_each,
        run_id=claim.own.name if among else uuid.uuid4().hex,
        role="trainer",
        rdzv_backend="static" if among else "c10d",
        rdzv_endpoint=f"{among.host}:{among.port}" if among else "127.0.0.1:0",
        rdzv_configs={"rank": among.node} if among else {},
        local_addr=None if among else "127.0.0.1",
        max_restarts=0,
        monitor_interval=_REAPED_EVERY,
        logs_specs=DefaultLogsSpecs(log_dir=str(claim.own / "ranks" / f"torch{among.node if among else ''}")),
    )
    job = str(claim.folder.path).replace("$", "$$")  # torch's launcher fills in names of its own
    try:
        elastic_launch(config, sys.executable)("-P", "-m", "trainyard.trainer", job)
    except ChildFailedError as e:
        return dict(e.failures)
    return {}


def _outcome(ranks: Ranks, first: Ended | None, failed: dict[int, Any]) -> Outcome:
    if first is None or not first.known:
        rank = min(failed) if first is None else first.rank
        first = ranks.earliest() or _seen(rank, failed[rank].exitcode)
    untold = None if ranks.left(0) else str(first)
    return Outcome(Exit.INTERNAL if first.code is None else first.code, first.signal, untold)


def _seen(rank: int, status: int) -> Ended:
    """Of a process that told nothing of its end; `status` is negative for a signal."""
    if status < 0:
        return Ended(rank, None, -status, f"ended by {signal.Signals(-status).name}", time.time())
    return Ended(rank, status, None, f"left with {status} before it could tell why", time.time())


def _ended(kind: int, pid: int) -> os.waitid_result | None:
    """The child that ended badly and was not waited for; its status stays for its parent's own wait."""
    try:
        seen = os.waitid(kind, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return None
    return None if seen is None or seen.si_status == 0 else seen


@define
class _Warden:
    """A thread beside torch's launcher: hands signals on, and sees which process ended first."""

    ranks: Ranks
    #: Processes of this machine.
    size: int
    among: Rendezvous | None = None
    first: Ended | None = None
    _wishes: list[int] = field(factory=list)
    _pids: dict[int, int] = field(factory=dict)
    _looked: float = 0.0
    _stacks: int = 0

    def watch(self) -> None:
        while self.first is None:
            self.take(_TICK)
            self.first = self._dead() or self._gone() or self._elsewhere()
        if self.among is None or (self.first.known and self.ranks.first(0) is None):
            self.ranks.name_first(self.first)
        time.sleep(_SURVIVORS_SECONDS)
        self._send(signal.SIGKILL)
        if self.among is not None:  # torch's launcher would wait long for the machine that failed
            time.sleep(_SURVIVORS_SECONDS)
            os._exit(1)

    def take(self, seconds: float) -> None:
        """Wait for a signal, and hand on what came."""
        caught = signal.sigtimedwait(FOR_RANKS, seconds)
        if caught is not None:
            self._wishes.append(caught.si_signo)
        if self._wishes:
            self._hand_on()

    def _elsewhere(self) -> Ended | None:
        """The process of another machine that ended first."""
        now = time.monotonic()
        if self.among is None or now < self._looked + _REAPED_EVERY:
            return None
        self._looked = now
        if self.among.node and (asked := nodes.stacks_asked(self.ranks.folder)) != self._stacks:
            self._stacks = asked
            self._wishes.append(signal.SIGUSR2)
        return self.ranks.first(0)

    def _known(self) -> dict[int, int]:
        """The processes; asked for only until all are there: the folder may lie on a shared file system."""
        if len(self._pids) < self.size:
            own = range(self.size) if self.among is None else self.among.ranks(self.size)
            self._pids = {rank: pid for rank, pid in self.ranks.pids().items() if rank in own}
        return self._pids

    def _hand_on(self) -> None:
        """When every process takes signals; a stop that comes before any does ends the run here."""
        if len(self._known()) == self.size:
            for number in self._wishes:
                self._send(number)
            self._wishes.clear()
        elif signal.SIGTERM in self._wishes and not self._known():
            os.write(2, b"trainyard: stopped_unsaved (76): stopped before its processes had started (SIGTERM)\n")
            os._exit(Exit.STOPPED_UNSAVED)

    def _send(self, number: int) -> None:
        for pid in self._known().values():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def _dead(self) -> Ended | None:
        """The process that ended badly, seen without taking its status from torch's launcher."""
        for rank, pid in self._known().items():
            if (seen := _ended(os.P_PID, pid)) is not None:
                return self._told(rank, seen)
        if len(self._known()) == self.size:
            return None  # any other child is a helper of torch's
        seen = _ended(os.P_ALL, 0)
        return None if seen is None else self._told(0, seen)

    def _told(self, rank: int, seen: os.waitid_result) -> Ended:
        if seen.si_code == os.CLD_EXITED:
            return self.ranks.earliest() or _seen(rank, seen.si_status)
        return _seen(rank, -seen.si_status)

    def _gone(self) -> Ended | None:
        """The process that torch's launcher saw first, with its status; that is known when the launcher is done."""
        for rank, pid in self._known().items():
            if (
                not Path(f"/proc/{pid}").exists()
                and (told := self.ranks.left(rank) or Ended(rank, None, None, "ended", time.time())).badly
            ):
                return self.ranks.earliest() or told
        return None
