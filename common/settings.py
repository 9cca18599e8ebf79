"""Every setting of the service: read from `TRAINYARD_*`, overridden by command-line flags (docs/SETTINGS.md)."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from attrs import Attribute, field, fields, frozen

from common.errors import SettingError
from schemas.values import Secret

PREFIX = "TRAINYARD_"
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_FOLDERS = {"jobs_folder": "jobs_dir", "cache_folder": "cache_dir"}
GIB = 1 << 30
MIB = 1 << 20
TIB = 1 << 40


def _setting(default: Any, help_text: str, least: float | None = None) -> Any:
    return field(default=default, metadata={"help": help_text, "least": least})


def _data_dir() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "trainyard"


@frozen(kw_only=True)
class Settings:
    """The service's settings. A field `x` is the variable `TRAINYARD_X`; sizes are bytes, times are seconds."""

    host: str = _setting("0.0.0.0", "address to listen on")  # noqa: S104 only loopback is served until a token is set
    port: int = _setting(8001, "port to listen on; 0 takes a free one", 0)
    data_dir: Path = field(factory=_data_dir, metadata={"help": "database, keys and lock; on a local file system"})
    jobs_folder: Path | None = _setting(None, "job folders; may lie on a shared file system; default `<data>/jobs`")
    cache_folder: Path | None = _setting(None, "downloads of models and data, for all jobs; default `<data>/cache`")
    backend: str = _setting("local", "the backend of requests that name none")
    token: Secret | None = _setting(None, "the fixed token that every caller must send")
    secret_key: Secret | None = _setting(None, "base64 of 32 bytes that seal secrets; default `<data>/secret.key`")
    allow_command: bool | None = _setting(
        None, "whether jobs may bring a trainer of their own, which runs as the service's user; default: yes"
    )
    public_url: str | None = _setting(None, "where runs on other machines reach this service, as `https://host`")
    log_format: Literal["auto", "json", "console"] = _setting(
        "auto", "JSON, key-values, or by whether it is a terminal"
    )
    log_level: Literal["debug", "info", "warning", "error"] = _setting("info", "least level that is logged")

    local_cpu_jobs: int = _setting(1, "CPU jobs that `local` runs at once; the others wait", 1)
    local_devices: str | None = _setting(None, "GPU indices that `local` may give away, as `0,1`; default: all")
    grace_seconds: float = _setting(60.0, "from SIGTERM to SIGKILL of a run", 0)
    lost_seconds: float = _setting(10.0, "a run without a guard and without an exit is lost after so long", 0)
    poll_seconds: float = _setting(0.1, "how often a local run's event file is looked at", 0.01)
    retry_seconds: float = _setting(5.0, "before the first retry of a job (`max_retries`); doubles, to 5 minutes", 0)
    backend_down_seconds: float = _setting(86400.0, "a job fails when its backend was away for so long", 0)
    slurm_partition: str | None = _setting(None, "Slurm's partition of jobs that name none; default: the cluster's own")
    slurm_account: str | None = _setting(None, "Slurm's account of jobs that name none; default: the user's own")
    slurm_setup: str | None = _setting(None, "shell lines at the top of every Slurm script, as `module load cuda`")
    slurm_poll_seconds: float = _setting(5.0, "between two looks at Slurm's queue, one for all jobs", 0.1)
    slurm_call_seconds: float = _setting(30.0, "for one of Slurm's commands to answer", 1)
    slurm_calls: int = _setting(8, "Slurm commands under way at once", 1)
    submit_concurrency: int = _setting(16, "submissions under way at once, for each backend", 1)

    max_body_bytes: int = _setting(MIB, "largest request body", 1)
    max_event_bytes: int = _setting(64 << 10, "largest event; longer texts are cut", 4096)
    max_log_line_bytes: int = _setting(64 << 10, "longest log line that is served", 256)
    max_train_log_bytes: int = _setting(2 * GIB, "size of a `train.log`; then its head and tail are kept", MIB)
    max_download_bytes: int = _setting(TIB, "largest file or folder that a run downloads from https or a bucket", 1)
    download_hosts: str | None = _setting(
        None, "https hosts that runs may ask, as `a.org,*.b.org`, private addresses too; default: every public one"
    )
    max_queued_jobs: int = _setting(100_000, "queued jobs; more are refused (429)", 1)
    max_subscribers: int = _setting(2000, "open event and log streams; more are refused (503)", 1)
    min_free_bytes: int = _setting(256 * MIB, "free disk below which new jobs get 507 and no checkpoint is begun", 0)
    writer_queue: int = _setting(10_000, "writes that may wait; more are refused (503)", 1)
    ring_bytes: int = _setting(16 * MIB, "newest events kept in memory for streams", 4096)
    ping_seconds: float = _setting(15.0, "between two comment lines on an idle event stream", 0.1)
    stop_seconds: float = _setting(10.0, "for open requests to end when the service stops", 0)
    mirror_seconds: float = _setting(2.0, "how often logs are copied to a job's `log_uri`", 0.1)

    preflights: int = _setting(2, "deep validations under way at once; more are refused (429)", 1)
    preflight_seconds: float = _setting(120.0, "for one deep validation; then it is ended (503)", 1)

    webhook_timeout_seconds: float = _setting(10.0, "for one delivery", 0.1)
    webhook_first_retry_seconds: float = _setting(1.0, "before the second try; doubles to an hour", 0.01)
    webhook_give_up_seconds: float = _setting(72 * 3600.0, "a delivery is dead after so long", 1)
    webhook_concurrency: int = _setting(64, "deliveries under way at once", 1)
    webhook_concurrency_per_host: int = _setting(16, "deliveries under way at once to one host", 1)

    @property
    def jobs_dir(self) -> Path:
        return self.jobs_folder or self.data_dir / "jobs"

    @property
    def cache_dir(self) -> Path:
        return self.cache_folder or self.data_dir / "cache"


def variable(attribute: "Attribute[Any]") -> str:
    """The environment variable of a setting."""
    return PREFIX + _FOLDERS.get(attribute.name, attribute.name).upper()


def read_settings(environ: Mapping[str, str], overrides: Mapping[str, object] | None = None) -> Settings:
    """The settings of `environ`; `overrides` (flags, by field name) win. Raises `SettingError`.

    An empty value is not set, and one that begins with `tcp://` neither: Kubernetes makes those for its own services.
    """
    values: dict[str, Any] = {}
    for attribute in fields(Settings):
        text = environ.get(variable(attribute), "")
        if text and not text.startswith("tcp://"):
            values[attribute.name] = _parse(attribute, text)
    values |= {k: v for k, v in (overrides or {}).items() if v is not None}
    return Settings(**values)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """Names in `environ` that look like settings and are none."""
    known = {variable(a) for a in fields(Settings)} | {PREFIX + "URL"}
    return sorted(n for n, v in environ.items() if n.startswith(PREFIX) and n not in known and not v.startswith("tcp:"))


def _parse(attribute: "Attribute[Any]", text: str) -> object:
    kind: Any = attribute.type
    name = variable(attribute)
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise SettingError(f"{name} must be one of {', '.join(get_args(kind))}, got {text!r}")
        return text
    if attribute.name == "public_url":
        if not text.startswith(("http://", "https://")):
            raise SettingError(f"{name} must be an http or https URL, got {text!r}")
        return text.rstrip("/")
    if kind == bool | None:
        if text.lower() not in _WORDS:
            raise SettingError(f"{name} must be true or false, got {text!r}")
        return _WORDS[text.lower()]
    if kind in (int, float):
        return _number(name, kind, text, attribute.metadata["least"])
    if kind == Secret | None:
        return Secret(text)
    if kind in (Path, Path | None):
        return Path(text).expanduser().absolute()
    return text


def _number(name: str, kind: Callable[[str], float], text: str, least: float | None) -> float:
    word = "an integer" if kind is int else "a number"
    try:
        value = kind(text)
    except ValueError as e:
        raise SettingError(f"{name} must be {word}, got {text!r}") from e
    if value != value or (least is not None and value < least):
        raise SettingError(f"{name} must be {word} ≥ {least:g}, got {text!r}")
    return value
