"""Does to a job what was drawn for it, and lets it come to its end."""

import time
from collections.abc import Callable

from tests.chaos.acts import Act, Patient
from tests.chaos.check import half_checkpoints
from tests.chaos.scene import Scene, Subject

_PATIENCE_SECONDS = 300.0
_LOOK_SECONDS = 0.002


def disturb(scene: Scene, patient: Patient, job_id: str) -> list[str]:
    """Submit the job, do all acts, wait for its end. Returns what was wrong on the way."""
    status, answer = scene.ask("POST", "/train", scene.document(job_id, patient.method, patient.processes))
    assert status in (200, 201), answer
    subject, problems = Subject(scene, job_id), []
    for act in patient.acts:
        if not _moment(subject, act):
            scene.say(f"{job_id}: over before {act}")
            break
        time.sleep(act.delay)
        scene.say(f"{job_id}: {act.moment} at step {subject.step()}: killed {_kill(subject, act)}")
        problems += half_checkpoints(subject.output)
        _settle(subject)
    _until(subject, lambda: _over(subject), "come to its end")
    return problems


def _kill(subject: Subject, act: Act) -> str:
    if act.victim != "service":
        return subject.kill(act.victim)
    beside: list[str] = []
    subject.scene.kill_service(act.away, lambda: beside.append(subject.kill(act.beside)))
    return f"the service for {act.away:.2f} s, and {beside[0]}"


def _moment(subject: Subject, act: Act) -> bool:
    """Wait for the moment of an act, or bring it about; False when the job was over before."""
    ask = subject.scene.ask
    waited: Callable[[], bool] = subject.claimed if act.moment == "starting" else lambda: subject.step() >= act.step
    if not _reached(subject, waited):
        return False
    if act.moment == "saving":
        return _reached(subject, subject.saving)
    if act.moment == "asked":
        ask("POST", f"/train/{subject.job_id}/checkpoint")
    if act.moment in ("pausing", "resuming"):
        ask("POST", f"/train/{subject.job_id}/pause")
    if act.moment == "resuming":
        _until(subject, lambda: _paused_or_over(subject), "pause")
        ask("POST", f"/train/{subject.job_id}/resume")
    return True


def _reached(subject: Subject, moment: Callable[[], bool]) -> bool:
    look_again, until = 0.0, time.monotonic() + _PATIENCE_SECONDS
    while not moment():
        if time.monotonic() > look_again:
            if _over(subject):
                return False
            assert time.monotonic() < until, _stuck(subject, "come to its next step")
            look_again = time.monotonic() + 0.5
        time.sleep(_LOOK_SECONDS)
    return True


def _settle(subject: Subject) -> None:
    """What was done has taken effect: a run lives on, or a newer one; or the job is over."""
    if subject.job()["phase"] in ("pausing", "paused"):
        _until(subject, lambda: _paused_or_over(subject), "pause")
        subject.scene.ask("POST", f"/train/{subject.job_id}/resume")
    _until(subject, lambda: subject.claimed() or _over(subject), "be tried again")


def _paused_or_over(subject: Subject) -> bool:
    job = subject.job()
    return bool(job["phase"] == "paused" or subject.ended())


def _over(subject: Subject) -> bool:
    job = subject.job()
    if job["phase"] == "paused":  # by an act whose service died before it could say so
        subject.scene.ask("POST", f"/train/{subject.job_id}/resume")
    return subject.ended()


def _until(subject: Subject, holds: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < until, _stuck(subject, what)
        time.sleep(0.1)


def _stuck(subject: Subject, what: str) -> str:
    job = subject.job()
    last = subject.scene.events(subject.job_id)[-1]
    return f"{subject.job_id} did not {what} within {_PATIENCE_SECONDS:.0f} s: {job['status']}/{job['phase']}, {last}"
