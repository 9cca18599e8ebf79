"""The options and the data of a diffusion job, as its document says them."""

from collections.abc import Mapping
from typing import Any

from schemas.diffusion import Options
from schemas.diffusion.dataloader import Entry
from schemas.diffusion.request import of_datasets, read_job
from schemas.diffusion.rules import against_prediction
from trainyard.trainer.failures import ConfigError


def read_options(request: Mapping[str, Any], processes: int = 1) -> Options:
    """The options of a resolved document, for so many processes. Raises `ConfigError` with all that is wrong.

    Options under their own names in `extra_parameters` win over the document's other fields. What may be a path is
    read (the dataloader, the LyCORIS file), what may be chosen is chosen (family, flavour, alpha).
    """
    job, errors = read_job(request, processes)
    if job is None:
        raise ConfigError(*(str(error) for error in errors))
    return job.options


def read_dataloader(request: Mapping[str, Any], options: Options) -> tuple[Entry, ...]:
    """The data sets and caches: those of `data_backend_config`, else one for each of the document's `datasets`."""
    entries = options.data_backend_config
    assert not isinstance(entries, str), "read_options has read the file"
    return of_datasets(request) if entries is None else entries


def check_prediction(options: Options, prediction: str) -> None:
    """Raises `ConfigError` with the options that a model which predicts this can't follow."""
    wrong = [f"extra_parameters.{name}: {message}" for name, message in against_prediction(options, prediction)]
    if wrong:
        raise ConfigError(*wrong)
