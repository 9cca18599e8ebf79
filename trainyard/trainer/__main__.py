"""`python -m trainyard.trainer JOBDIR`: the first event, then the loop, then the exit code.

torch and its friends are imported by the loop: the first event must not wait for them.
"""

import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module

from common.exits import Exit
from trainyard.trainer.claim import Claim, Fence, Spec
from trainyard.trainer.control import Control
from trainyard.trainer.failures import ConfigError, Fenced, RunEnded, StopNow, Stopped, exit_of, explained, first_line
from trainyard.trainer.reporting import Reporter
from trainyard.trainer.run import Result, Run
from trainyard.trainer.secrets import Secrets, start_log

log = logging.getLogger("trainyard.trainer")
_ENGINES = {"text": "trainyard.trainer.text.engine"}


def main(argv: list[str]) -> int:
    """Run the job of one folder; every way to end is an exit code and a last line."""
    if len(argv) != 1:
        sys.stderr.write("usage: python -m trainyard.trainer JOBDIR\n")
        return Exit.CONFIG
    try:
        claim = Claim.read(argv[0])
        fence = Fence(claim.folder, claim.pair)
        report = Reporter(claim.own, fence.check)
        control = Control(claim.folder.control, claim.pair, report)
        control.listen()
        report.phase("preparing")
    except Exception as e:
        return _ended(e)
    return _run(claim, fence, report, control)


def _run(claim: Claim, fence: Fence, report: Reporter, control: Control) -> int:
    try:
        secrets = Secrets.read(claim.folder, claim.pair.attempt)
        report.mask = secrets.mask
        start_log(secrets)
        spec = Spec.read(claim)
        _prepare_environment(spec.threads)
        result = _engine(spec.engine)(Run(claim, fence, report, control, secrets, spec))
        report.end(result.step, result.final_uri)
    except StopNow:
        return _ended(control.stopped(), report, control)
    except Exception as e:
        return _ended(e, report, control)
    log.info("done: %s", result.final_uri)
    return Exit.DONE


def _engine(name: str) -> Callable[[Run], Result]:
    if name not in _ENGINES:
        raise ConfigError(f"engine {name!r} is not in this version; it runs {', '.join(_ENGINES)}")
    start: Callable[[Run], Result] = import_module(_ENGINES[name]).start
    return start


def _prepare_environment(threads: int) -> None:
    """What libraries read when they are imported."""
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), str(threads)))
    # Threads that spin at barriers make a run 20 times slower where it does not have its cores for itself.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.update(HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_DISABLE_TELEMETRY="1", TOKENIZERS_PARALLELISM="true")


def _ended(error: Exception, report: Reporter | None = None, control: Control | None = None) -> int:
    ended = error if isinstance(error, RunEnded) else explained(error)
    if ended is None:
        log.exception("a fault of ours")
        ended = RunEnded(f"{type(error).__name__}: {first_line(error)}")
    elif ended is not error:
        log.error("the cause", exc_info=error)
    code = exit_of(ended)
    if report and control and not isinstance(ended, Fenced):
        _tell(ended, code, report, control)
    log.error("trainyard: %s (%d): %s", code.name.lower(), code, ended)
    return code


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
    sys.exit(main(sys.argv[1:]))
