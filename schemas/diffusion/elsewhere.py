"""Options of SimpleTuner's configurations that a `/train` document says by a field of its own."""

from functools import partial
from typing import Annotated, Any, Final

from attrs import frozen

from schemas.diffusion.option import option
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
