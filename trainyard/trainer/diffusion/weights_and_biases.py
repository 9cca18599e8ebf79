"""Curves at Weights & Biases: sent there where the job has a key, else kept in the output for `wandb sync`."""

import os
import re
import threading
from collections.abc import Mapping
from typing import Any

from schemas.diffusion import Options
from trainyard.trainer.failures import first_line
from trainyard.trainer.run import Run

_KEY, _MODE, _ERROR_REPORTS = "WANDB_API_KEY", "WANDB_MODE", "WANDB_ERROR_REPORTING"
#: How long what is not sent yet is waited for, after a good run and after another.
_PATIENCE_SECONDS, _HURRY_SECONDS = 120.0, 10.0
#: Of a project, as the library wants it.
_NOT_IN_NAMES, _LONGEST_NAME = re.compile(r"[/\\\\#?%:]"), 128


class WeightsAndBiases:
    """One run of theirs for a job, whatever its attempts: a resumed job goes on with it.

    The key is `WANDB_API_KEY` of `extra_parameters.env`; `WANDB_MODE` and the library's other variables stand there
    too. Nothing that goes wrong there ends a training: it is told, and no more is sent.
    """

    def __init__(self, options: Options, run: Run) -> None:
        """Raises `OSError` where the output folder can't be written to."""
        os.environ.setdefault(_ERROR_REPORTS, "false")  # the library's own faults are not told to its makers

        self._report, self._folder = run.report, run.spec.output
        mode: Any = os.environ.get(_MODE) or ("online" if os.environ.get(_KEY) else "offline")
        try:
            self._run = self._begun(options, run, mode)
        except OSError:
            raise
        except Exception as e:  # the library's own errors, and those of what it is made of
            self._warn(f"{first_line(e)}; what can be sent later is kept")
            self._run = self._kept(options, run)
        if self._run is None:
            return
        if self._run.settings.mode == "offline":
            why = "" if os.environ.get(_KEY) else f"no {_KEY} is in extra_parameters.env; "
            self._warn(f"{why}curves are kept, and `wandb sync {self._run.settings.sync_dir}` sends them")

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """The values of one step, by name."""
        if self._run is None:
            return
        try:
            self._run.log(dict(values), step=step)
        except Exception as e:
            self._warn(f"{first_line(e)}; nothing more is told there")
            self._run = None

    def close(self, good: bool) -> None:
        """Wait a while until all is there."""
        if self._run is None:
            return
        ended, wrong = self._run, list[Exception]()

        def finish() -> None:
            try:
                ended.finish(exit_code=0 if good else 1)
            except Exception as e:
                wrong.append(e)

        thread = threading.Thread(target=finish, name="wandb", daemon=True)
        thread.start()
        thread.join(_PATIENCE_SECONDS if good else _HURRY_SECONDS)
        self._run = None
        if thread.is_alive():
            _leave_unsent()
        if thread.is_alive() or wrong:
            why = first_line(wrong[0]) if wrong else "not all was sent in time"
            self._warn(f"{why}; `wandb sync` of {self._folder / 'wandb'} would send the rest")

    def _kept(self, options: Options, run: Run) -> Any:
        try:
            return self._begun(options, run, "offline")
        except OSError:
            raise
        except Exception as e:
            self._warn(f"{first_line(e)}; nothing is told there")
            return None

    def _begun(self, options: Options, run: Run, mode: Any) -> Any:
        import wandb

        from trainyard.trainer.diffusion.keep import plain

        return wandb.init(
            project=_NOT_IN_NAMES.sub("-", options.tracker_project_name or "")[:_LONGEST_NAME] or None,
            name=options.tracker_run_name,
            id=run.spec.uid,
            resume="allow" if mode == "online" else None,
            config={**plain(options), "job_id": run.spec.job_id},
            dir=str(self._folder),
            mode=mode,
            reinit="create_new",
            settings=wandb.Settings(
                console="off", silent=True, disable_git=True, save_code=False, finish_timeout=_PATIENCE_SECONDS
            ),
        )

    def _warn(self, message: str) -> None:
        self._report.log(f"report_to wandb: {message}", level="warning")


def _leave_unsent() -> None:
    """The library's process waits at exit for what it could not send, for as long as that takes."""
    from wandb.sdk import wandb_setup

    service = getattr(wandb_setup.singleton(), "_connection", None)
    cleanup = getattr(service, "_cleanup", None)
    if cleanup is not None:
        cleanup()
