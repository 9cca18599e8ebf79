"""`python -m trainyard.trainer JOBDIR`: the first event, then the loop, then the exit code.

torch and its friends are imported by the loop: the first event must not wait for them.
"""

import atexit
import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import NoReturn

from common.exits import Exit
from trainyard.trainer import again
from trainyard.trainer.claim import Claim, Fence, Spec
from trainyard.trainer.control import Control
from trainyard.trainer.failures import (
    BeginAgain,
    Bereaved,
    ConfigError,
    Fenced,
    RunEnded,
    StopNow,
    Stopped,
    exit_of,
    explained,
    first_line,
)
from trainyard.trainer.launch import launch, leave_by
from trainyard.trainer.ranks import Ranks
from trainyard.trainer.reporting import Reporter
from trainyard.trainer.run import Result, Run
from trainyard.trainer.secrets import Secrets, start_log

log = logging.getLogger("trainyard.trainer")
_LAUNCHER_SECONDS = 3.0
_ENGINES = {"text": "trainyard.trainer.text.engine", "diffusion": "trainyard.trainer.diffusion.engine"}


def main(argv: list[str]) -> int:
    """Run the job of one folder; every way to end is an exit code and a last line."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m trainyard.trainer JOBDIR\n")
        return Exit.CONFIG
    try:
        claim = Claim.read(argv[0])
        fence = Fence(claim.folder, claim.pair)
        report = Reporter(claim.own, fence.check, silent=claim.rank > 0)
        control = Control(claim.folder.control, claim.pair, report, first=claim.rank == 0)
        control.listen()
        if claim.launched:
            Ranks.of(claim.own).enter(claim.rank)
        report.phase("preparing")
    except Exception as e:
        return _ended(e)
    return _run(claim, fence, report, control)


def _run(claim: Claim, fence: Fence, report: Reporter, control: Control) -> int:
    try:
        secrets = Secrets.read(claim.folder, claim.pair.attempt)
        report.mask = secrets.mask
        start_log(secrets, claim.rank)
        spec = Spec.read(claim)
        if spec.processes > 1 and not claim.launched:
            return _in_processes(claim, spec, report, control)
        _prepare_environment(spec.threads, claim.launched)
        result = _engine(spec.engine)(Run(claim, fence, report, control, secrets, spec))
        report.end(result.step, result.final_uri)
    except StopNow:
        return _ended(control.stopped(), claim, report, control)
    except Exception as e:
        return _ended(e, claim, report, control)
    log.info("done: %s", result.final_uri)
    return _left(claim, Exit.DONE, "done")


def _in_processes(claim: Claim, spec: Spec, report: Reporter, control: Control) -> int:
    """Start the run's processes and leave as the first of them did that failed."""
    _engine(spec.engine)
    outcome = launch(claim, spec, lambda: control.stop is not None)
    if again.asked(claim):
        again.begin(claim)
    if outcome.untold:
        report.go_on()
        report.event("log", {"message": outcome.untold, "level": "error", "exit_code": outcome.code})
        report.end(report.step)
        log.error("trainyard: %s", outcome.untold)
    if outcome.signal is not None:
        leave_by(outcome.signal)
    return _leave_now(outcome.code)


def _engine(name: str) -> Callable[[Run], Result]:
    if name not in _ENGINES:
        raise ConfigError(f"engine {name!r} is not in this version; it runs {', '.join(_ENGINES)}")
    start: Callable[[Run], Result] = import_module(_ENGINES[name]).start
    return start


def _prepare_environment(threads: int, launched: bool) -> None:
    """What libraries read when they are imported."""
    if not launched:  # somebody else's: torch and accelerate would wait for processes that are not there
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            os.environ.pop(name, None)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads)))
    # Threads that spin for long at barriers make a run 20 times slower where it does not have its cores for itself;
    # ones that sleep at once are woken too slowly for the many small operations of short rows.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="true")


def _ended(
    error: Exception, claim: Claim | None = None, report: Reporter | None = None, control: Control | None = None
) -> int:
    if control:
        control.deafen()
    ended = error if isinstance(error, RunEnded) else explained(error)
    if ended is None:
        ended = _bereaved(claim) or RunEnded(f"{type(error).__name__}: {first_line(error)}")
    code = exit_of(ended)
    if type(ended) is RunEnded:
        log.error("a fault of ours", exc_info=error)
    elif ended is not error and not isinstance(ended, Bereaved):
        log.error("the cause", exc_info=error)
    if claim and isinstance(ended, BeginAgain):
        again.ask(claim, ended.handed)
    if report and control and not isinstance(ended, Fenced) and not again.asked(claim):
        _tell(ended, code, report, control)
    log.error("trainyard: %s (%d): %s", code.name.lower(), code, ended)
    return _left(claim, code, str(ended), isinstance(ended, Bereaved), ended.together)


def _bereaved(claim: Claim | None) -> Bereaved | None:
    """An error that nothing explains is what a process meets whose peer is gone, if the launcher saw one go first."""
    if claim is None or not claim.launched:
        return None
    first = Ranks.of(claim.own).first(_LAUNCHER_SECONDS)
    return None if first is None or first.rank == claim.rank else Bereaved(str(first), first.code)


def _left(claim: Claim | None, code: int, message: str, bereaved: bool = False, together: bool = False) -> int:
    """Of several processes each says how it ended.

    Where all end together the others leave well: torch's launcher would end the first one, which may have work to do.
    """
    if claim is None or not claim.launched:
        return code
    try:
        Ranks.of(claim.own).leave(claim.rank, code, message, bereaved, together and claim.rank > 0)
    except OSError as e:
        log.warning("how this process ended could not be noted: %s", e)
    return _leave_now(Exit.DONE if together and claim.rank else code)


def _leave_now(code: int) -> NoReturn:
    """Without taking everything apart: with torch that takes over a second.

    It would also wait for a thread whose download was given up, and for a peer that is gone.
    """
    atexit._run_exitfuncs()
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def _tell(ended: RunEnded, code: Exit, report: Reporter, control: Control) -> None:
    """The last events; the exit code says the same, so a full disk or a fence may keep them out."""
    try:
        control.poll()
        if not isinstance(ended, Stopped):
            report.event("log", {"message": str(ended), "level": "error", "exit_code": int(code)})
        report.end(report.step)
    except RunEnded as e:
        log.warning("the last events could not be told: %s", e)


if __name__ == "__main__":
    _leave_now(main(sys.argv[1:]))
