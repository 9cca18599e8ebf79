"""Where the model, the rows and the results lie: which URIs this installation reads and writes, and what is there."""

from collections.abc import Iterator

from backends.engines import paths
from backends.engines.machine import Machine
from common.storage import scheme
from schemas.train import DatasetAuth, TrainRequest

Found = Iterator[tuple[str, str]]

BUCKETS = ("s3", "gs", "az")
STORAGE = "pip install 'trainyard[storage]' would do"
_FILES = ("jsonl", "parquet", "csv", "arrow", "nemo")


def model_errors(request: TrainRequest, machine: Machine) -> Found:
    """What is wrong with the base model's place; beside a `weights_url` a name only gives what the weights lack."""
    model, method = request.base_model, request.customization.method
    if model.weights_url is not None:
        yield from unreadable("base_model.weights_url", model.weights_url, machine)
    if scheme(model.model_name) != "file":
        yield from unreadable("base_model.model_name", model.model_name, machine)
    elif model.weights_url is None and (problem := paths.model_problem(model.model_name, method)) is not None:
        yield "base_model.model_name", problem


def dataset_errors(request: TrainRequest, machine: Machine) -> Found:
    """What is wrong with each dataset's place and form."""
    for n, dataset in enumerate(request.datasets):
        at, kind = f"datasets[{n}]", scheme(dataset.source)
        if dataset.format == "imagefolder":
            yield f"{at}.format", f"'imagefolder' is data of images; the text engine reads {', '.join(_FILES)} and hf"
        elif kind == "https" and dataset.format == "hf":
            yield f"{at}.source", "https:// names one file; a hub id or a folder of save_to_disk is what hf reads"
        elif kind == "file":
            problem = paths.dataset_problem(dataset.source, dataset.format)
            yield from [(f"{at}.source", problem)] if problem is not None else []
        else:
            yield from unreadable(f"{at}.source", dataset.source, machine)
        yield from auth_errors(f"{at}.auth", dataset.auth, [kind], machine)


def artifact_errors(request: TrainRequest, machine: Machine) -> Found:
    """What is wrong with where logs and results go."""
    artifacts = request.artifacts
    places = {"log_uri": artifacts.log_uri, "output_uri": artifacts.output_uri}
    for name, uri in places.items():
        kind = scheme(uri)
        if kind == "file":
            problem = paths.folder_problem(uri)
            yield from [(f"artifacts.{name}", problem)] if problem is not None else []
        elif kind not in BUCKETS:
            yield f"artifacts.{name}", f"{kind}:// can't be written; s3://, gs://, az:// or a local folder would run"
        else:
            yield from unreadable(f"artifacts.{name}", uri, machine)
    yield from auth_errors("artifacts.auth", artifacts.auth, _kept(request), machine)


def is_revision_unused(request: TrainRequest) -> bool:
    """Whether a hub revision was asked of what is no hub: a folder, a bucket or an address."""
    model = request.base_model
    no_hub = paths.model_path(model.model_name) is not None or scheme(model.model_name) not in ("file", "hf")
    return no_hub and "base_model.revision" in request.asked


def unused_auth(request: TrainRequest) -> Iterator[str]:
    """The paths of credentials that nothing asks for: local files are the service's user's."""
    for n, dataset in enumerate(request.datasets):
        local = paths.place(dataset.source) is not None and not paths.is_hub_dataset(dataset.source, dataset.format)
        if dataset.auth is not None and local:
            yield f"datasets[{n}].auth"
    if request.artifacts.auth is not None and not set(_kept(request)) & set(BUCKETS):
        yield "artifacts.auth"


def _kept(request: TrainRequest) -> list[str]:
    """The schemes of what `artifacts.auth` opens: logs, results, and a model in a bucket."""
    model, artifacts = request.base_model, request.artifacts
    uris = (artifacts.log_uri, artifacts.output_uri, model.weights_url or model.model_name)
    return [scheme(uri) for uri in uris]


def unreadable(at: str, uri: str, machine: Machine) -> Found:
    """What reading a URI needs and this installation has not."""
    kind = scheme(uri)
    if kind in BUCKETS and "obstore" in machine.absent:
        yield at, f"{kind}:// needs obstore, which is not installed: {STORAGE}"


def auth_errors(at: str, auth: DatasetAuth | None, kinds: list[str], machine: Machine) -> Found:
    """What is wrong with credentials for sources of these schemes."""
    if auth is None or auth.role_arn is None:
        return
    others = [kind for kind in kinds if kind != "file"]
    if others and "s3" not in others:
        yield f"{at}.role_arn", f"is for s3://, and this is {others[0]}://; leave it out"
    elif others and "boto3" in machine.absent:
        yield f"{at}.role_arn", f"needs boto3, which is not installed: {STORAGE}"
