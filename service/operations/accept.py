"""A posted document made ready: checked by the contract and by its backend, secrets taken out, spec built."""

import os.path
from collections.abc import Mapping
from typing import Any

from attrs import frozen

from common.backend import JobSpec
from common.errors import InvalidRequest
from schemas.converter import Structured, structure
from schemas.paths import absolute_paths
from schemas.secrets import seal
from schemas.trail import kind_word
from schemas.train import TrainRequest
from schemas.values import FieldError, FieldWarning
from service.parts import Parts

_FLUX = (
    "this looks like the Flux Train API's document (`output_name`, no `job_id`); that API is not in this version, "
    "POST /train takes the document that the README's quick start shows"
)
PREFIX = "extra_parameters"


@frozen(kw_only=True)
class Accepted:
    """A valid document: what runs it, and what is kept of it."""

    request: TrainRequest
    backend: str
    spec: JobSpec
    document: Mapping[str, Any]
    secrets: Mapping[str, str]
    fingerprint: str
    warnings: tuple[FieldWarning, ...]


def accept(parts: Parts, posted: object, *, strict: bool) -> Accepted:
    """Check a document. Raises `InvalidRequest` with everything that is wrong, `UnknownBackend`."""
    if not isinstance(posted, dict):
        raise InvalidRequest([FieldError("$", f"must be an object, got {kind_word(posted)}")])
    if "output_name" in posted and "job_id" not in posted:
        raise InvalidRequest([FieldError("$", _FLUX)], _FLUX)
    document = absolute_paths(posted, parts.cwd, exists=os.path.exists)
    read = structure(document, TrainRequest, strict=strict)
    named = posted.get("backend")
    name = named if isinstance(named, str) else parts.settings.backend
    request = read.value
    if request is None and name not in parts.registry.names():
        raise InvalidRequest(read.errors)
    backend = parts.registry.get(name)
    options: Structured[Any] = structure(_options(request), backend.Options, strict=strict, prefix=PREFIX)
    errors = [*read.errors, *options.errors]
    if request is not None and not options.errors:
        errors += backend.validate_request(request)
    if errors:
        raise InvalidRequest(errors, f"{len(errors)} fields are wrong" if len(errors) > 1 else None)
    assert request is not None
    spec = backend.build_job_spec(request)
    sealed = seal(document, options=backend.Options)
    return Accepted(
        request=request,
        backend=name,
        spec=spec,
        document=sealed.document,
        secrets=sealed.values,
        fingerprint=sealed.fingerprint if document == posted else seal(posted, options=backend.Options).fingerprint,
        warnings=(*read.warnings, *options.warnings, *spec.warnings),
    )


def _options(request: TrainRequest | None) -> dict[str, Any]:
    """The keys of `extra_parameters` that no common field takes."""
    return dict(request.extra_parameters.options) if request is not None else {}
