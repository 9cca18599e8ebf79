"""Options of SimpleTuner's configurations that a `/train` document says by a field of its own."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from attrs import frozen

from schemas.diffusion.files import absolute
from schemas.diffusion.option import option
from schemas.diffusion.spelling import UNSET, items
from schemas.limits import Range
from schemas.train_terms import AtLeastOne, NotNegative, Text

_service = partial(option, "service")

#: The field that says it; and so an option here is none in `extra_parameters`.
SAID_BY: Final = {
    "output_dir": "artifacts.output_uri",
    "logging_dir": "artifacts.log_uri",
    "webhook_config": "callbacks.webhook_url",
    "webhook_reporting_interval": "callbacks.event_filter",
    "accelerate_visible_devices": "resources.gpus",
    "num_machines": "the backend's own keys",
    "machine_rank": "the backend's own keys",
    "main_process_ip": "the backend's own keys",
    "main_process_port": "the backend's own keys",
}
#: Those that are taken all the same, where the field is left out or says no other thing.
TAKEN: Final = ("output_dir", "logging_dir", "accelerate_visible_devices")
_LISTS: Final = ("accelerate_visible_devices",)


@frozen(kw_only=True)
class ServiceOptions:
    """What the service does for a run."""

    output_dir: Text = _service("simpletuner-results", "where checkpoints and the result go", path=True)
    logging_dir: Text = _service("logs", "where logs and curves go", path=True)
    webhook_config: tuple[Any, ...] | Text | None = _service(None, "who is told of events")
    webhook_reporting_interval: NotNegative | None = _service(None, "seconds between two reports of progress")
    accelerate_visible_devices: tuple[Text, ...] | None = _service(None, "devices that are preferred")
    num_machines: AtLeastOne = _service(1, "machines of the run")
    machine_rank: Annotated[int, Range(ge=0)] = _service(0, "which of them this one is")
    main_process_ip: Text = _service("127.0.0.1", "where the first one is found")
    main_process_port: Annotated[int, Range(ge=1, le=65_535)] = _service(29_500, "on which port")


def with_places(extra: Mapping[str, Any], cwd: Path) -> dict[str, Any]:
    """Options with absolute places: a relative `output_dir` is below `cwd`, a relative `logging_dir` below that."""
    found, output, logs = dict(extra), _text(extra, "output_dir"), _text(extra, "logging_dir")
    if output is not None:
        found["output_dir"] = output = absolute(output, cwd)
    if logs is not None:
        found["logging_dir"] = _below(logs, output or str(cwd))
    return found


def put_in_fields(document: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The document with what such options (of `with_places`) say in the fields that it leaves out."""
    found = dict(document)
    for path, value in _meant(extra).items():
        part, name = path.split(".")
        own = found.get(part)
        if own is None or isinstance(own, dict):
            found[part] = {name: value} | (own or {})
    return found


def differing(document: Mapping[str, Any], extra: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Those options that a document's own field says otherwise, or that say nothing which can be read."""
    meant = _meant(extra)
    for name in TAKEN:
        if _is_unset(extra.get(name)):
            continue
        if (said := meant.get(SAID_BY[name])) is None:
            yield name, f"must be {'a list of devices' if name in _LISTS else 'the path of a folder'}"
            continue
        part, field = SAID_BY[name].split(".")
        own = document.get(part)
        there = own.get(field) if isinstance(own, dict) else None
        if there is not None and _plain(there) != _plain(said):
            yield name, f"says another than {SAID_BY[name]}: give one of them, or the same value"


def _meant(extra: Mapping[str, Any]) -> dict[str, Any]:
    """By the paths of fields."""
    found: dict[str, Any] = {}
    output, logs = _text(extra, "output_dir"), _text(extra, "logging_dir")
    if output is not None:
        found["artifacts.output_uri"] = output
        found["artifacts.log_uri"] = _below("logs", output)
    if logs is not None:
        found["artifacts.log_uri"] = logs
    if devices := items(extra.get("accelerate_visible_devices")):
        found["resources.gpus"] = len(set(map(str, devices)))
    return found


def _text(extra: Mapping[str, Any], name: str) -> str | None:
    value = extra.get(name)
    return value if isinstance(value, str) and not _is_unset(value) else None


def _below(place: str, folder: str) -> str:
    """A place in a folder, or below a URI."""
    if "://" in folder and place[:1] not in "/~":
        return f"{folder.rstrip('/')}/{place}"
    return absolute(place, Path(folder))


def _is_unset(value: object) -> bool:
    return value is None or value in ((), []) or (isinstance(value, str) and value.strip() in UNSET)


def _plain(value: object) -> object:
    return value.removeprefix("file://").rstrip("/") if isinstance(value, str) else value
