"""The values handed over in `secrets.<n>`, and the log format that never shows them."""

import json
import logging
import sys
import warnings
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from common.clock import stamp
from common.folder import JobFolder
from trainyard.trainer.failures import ConfigError

MASK = "••••"
_SHORTEST = 3
_SHORTEST_ENV = 6


@frozen
class Secrets:
    """Secret values by their path in the document; printing it shows none of them."""

    values: Mapping[str, str] = field(factory=dict, repr=False)
    hidden: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, folder: JobFolder, attempt: int) -> "Secrets":
        """The attempt's secrets; none when the file is absent. Raises `ConfigError` when it can't be read."""
        path = folder.secrets(attempt)
        try:
            return cls.of(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, AttributeError) as e:
            raise ConfigError(f"{path} can't be read: {type(e).__name__}") from e

    @classmethod
    def of(cls, raw: Mapping[str, Any]) -> "Secrets":
        """Those of a `secrets.<n>` that was read."""
        values = {str(k): str(v) for k, v in (raw.get("values") or {}).items()}
        env = [str(v) for v in (raw.get("env") or {}).values()]
        token = str(raw.get("job_token") or "")
        hidden = {v for v in (*values.values(), token) if len(v) >= _SHORTEST} | {
            v for v in env if len(v) >= _SHORTEST_ENV
        }
        return cls(values, tuple(sorted(hidden, key=len, reverse=True)))

    def get(self, *paths: str) -> str | None:
        """The first of `paths` that has a value."""
        return next((self.values[path] for path in paths if self.values.get(path)), None)

    def mask(self, text: str) -> str:
        """`text` with every secret value replaced."""
        for value in self.hidden:
            text = text.replace(value, MASK)
        return text


class MaskingFormatter(logging.Formatter):
    """One line of time, level and message; the masking covers tracebacks too."""

    def __init__(self, secrets: Secrets, rank: int = 0) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {f'[process {rank}] ' if rank else ''}%(message)s")
        self._secrets = secrets

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        return stamp(record.created)

    def format(self, record: logging.LogRecord) -> str:
        return self._secrets.mask(super().format(record))


def start_log(secrets: Secrets, rank: int = 0) -> None:
    """Everything that is logged goes to stderr, which the guard made the job's `train.log`, masked.

    Of several processes only the first says how it goes on; what goes wrong is said by each, with its number.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(MaskingFormatter(secrets, rank))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("trainyard").setLevel(logging.WARNING if rank else logging.INFO)
    logging.captureWarnings(True)
    for developers in (FutureWarning, DeprecationWarning):
        warnings.simplefilter("ignore", developers)
