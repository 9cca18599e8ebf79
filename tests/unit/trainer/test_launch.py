"""Of several processes that end, the run ends as the first did."""

import os
import signal
import subprocess
import sys

from trainyard.trainer import launch
from trainyard.trainer.launch import Outcome, _outcome, _Warden, name_seen
from trainyard.trainer.ranks import Ended


class Failure:
    """As torch's launcher tells it."""

    def __init__(self, exitcode, timestamp=0):
        self.exitcode, self.timestamp = exitcode, timestamp


def test_who_failed_first_tells_the_code_and_who_lost_its_peer_does_not(ranks):
    ranks.leave(0, 70, "connection closed", bereaved=True)
    ranks.leave(1, 71, "out of memory")
    ranks.leave(2, 70, "a bug")
    first = ranks.earliest()
    assert (first.rank, str(first)) == (1, "process 1: out of memory")
    assert _outcome(ranks, first, {}) == Outcome(71)


def test_a_death_that_only_torch_saw_is_the_signal_or_code_that_torch_saw(ranks):
    ranks.leave(0, 70, "connection closed", bereaved=True)
    gone = Ended(1, None, None, "ended", 0.0)
    assert _outcome(ranks, gone, {0: Failure(70), 1: Failure(-9)}).signal == signal.SIGKILL
    assert _outcome(ranks, gone, {0: Failure(70), 1: Failure(3)}).code == 3
    assert _outcome(ranks, None, {1: Failure(3)}).code == 3


def test_another_machine_hears_of_a_death_that_torch_saw_before_the_warden(ranks):
    ranks.name_first(Ended(1, None, None, "ended", 0.0))
    name_seen(ranks, {1: Failure(-9, 5), 2: Failure(70, 7)})
    assert (ranks.first(0).rank, ranks.first(0).signal) == (1, signal.SIGKILL)
    name_seen(ranks, {3: Failure(71)})
    assert ranks.first(0).rank == 1, "who was named stays"


def test_a_process_that_lost_its_peer_is_not_named_as_the_first(ranks):
    ranks.leave(0, 70, "connection closed", bereaved=True)
    name_seen(ranks, {0: Failure(70)})
    assert ranks.first(0) is None


def test_what_the_first_process_could_not_tell_the_launcher_tells(ranks):
    killed = Ended(0, None, 9, "ended by SIGKILL", 0.0)
    assert _outcome(ranks, killed, {}) == Outcome(70, 9, "process 0: ended by SIGKILL")
    ranks.leave(0, 70, "it is told", bereaved=True)
    assert _outcome(ranks, killed, {}).untold is None


def test_a_death_is_seen_without_taking_it_from_its_parent(ranks):
    dead = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import os; os.kill(os.getpid(), 9)"])
    os.waitid(os.P_PID, dead.pid, os.WEXITED | os.WNOWAIT)
    (ranks.folder / "0.pid").write_text(str(os.getpid()))
    (ranks.folder / "1.pid").write_text(str(dead.pid))
    warden = _Warden(ranks, 2)
    seen = warden._dead()
    assert (seen.rank, seen.signal, seen.message) == (1, 9, "ended by SIGKILL")
    assert dead.wait() == -9
    assert warden._dead() is None
    assert warden._gone().rank == 1, "afterwards it is known that it went, not how"


def test_a_process_that_left_well_is_no_failure(ranks):
    left = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    (ranks.folder / "1.pid").write_text(str(left.pid))
    ranks.leave(1, 0, "done")
    left.wait()
    assert _Warden(ranks, 2)._gone() is None


def test_the_others_of_a_stop_that_all_agreed_on_leave_well(ranks):
    ranks.leave(1, 75, "stopped", together=True)
    assert ranks.earliest() is None
    gone = subprocess.Popen([sys.executable, "-I", "-S", "-c", ""])
    (ranks.folder / "1.pid").write_text(str(gone.pid))
    gone.wait()
    assert _Warden(ranks, 2)._gone() is None, "the first process has its time"
    ranks.leave(0, 75, "stopped")
    assert _outcome(ranks, ranks.earliest(), {}) == Outcome(75)


def test_wishes_wait_until_every_process_takes_signals(ranks, monkeypatch):
    sent = []
    monkeypatch.setattr(launch.os, "kill", lambda pid, number: sent.append((pid, number)))
    warden = _Warden(ranks, 2, wishes=[signal.SIGUSR1])
    (ranks.folder / "0.pid").write_text("100")
    warden._hand_on()
    assert sent == []
    (ranks.folder / "1.pid").write_text("101")
    warden._hand_on()
    warden._hand_on()
    assert sorted(sent) == [(100, signal.SIGUSR1), (101, signal.SIGUSR1)]
