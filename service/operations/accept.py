"""A posted document made ready: checked by the contract and by its backend, secrets taken out, spec built."""

import os.path
from collections.abc import Mapping, Sequence
from typing import Any

from attrs import frozen

from common.backend import BaseTrainerBackend, JobSpec
from common.errors import InvalidRequest
from schemas.converter import Structured, structure
from schemas.diffusion.document import filled, is_of_pictures, prepared
from schemas.diffusion.request import options_given
from schemas.diffusion.rules import scripts_of
from schemas.engine_options import options_with
from schemas.fields import shape_of
from schemas.paths import absolute_paths
from schemas.secrets import seal
from schemas.trail import kind_word
from schemas.train import ExtraParameters, TrainRequest
from schemas.values import FieldError, FieldWarning
from service.asked import errors_of, spec_of
from service.job_tokens import base_url
from service.parts import Parts

_FLUX = (
    "this looks like the Flux Train API's document (`output_name`, no `job_id`); that API is not in this version, "
    "POST /train takes the document that the README's quick start shows"
)
PREFIX = "extra_parameters"
_NOT_ALLOWED = "a trainer of your own is not allowed here: TRAINYARD_ALLOW_COMMAND is false"
_NO_SCRIPT = "a script of your own is not allowed here: TRAINYARD_ALLOW_COMMAND is false"
_NO_URL = (
    "on {} its run must know where this service is, and TRAINYARD_PUBLIC_URL is not set: "
    "start the service with it, as http://<this machine>:<port>; local would run it"
)


@frozen(kw_only=True)
class Checked:
    """A valid document: who runs it, and how."""

    request: TrainRequest
    backend: BaseTrainerBackend
    spec: JobSpec
    warnings: tuple[FieldWarning, ...]


@frozen(kw_only=True)
class Accepted:
    """A valid document: what runs it, and what is kept of it."""

    request: TrainRequest
    backend: str
    spec: JobSpec
    document: Mapping[str, Any]
    secrets: Mapping[str, str]
    warnings: tuple[FieldWarning, ...]


def reads_files(parts: Parts, posted: object) -> bool:
    """Whether what a document names is read to accept it, so that it can't be done on the event loop."""
    return isinstance(posted, dict) and is_of_pictures(posted, parts.cwd, os.path.exists)


def accept(parts: Parts, posted: object, *, strict: bool) -> Accepted:
    """Check a document. Raises `InvalidRequest` with everything that is wrong, `UnknownBackend`."""
    if not isinstance(posted, dict):
        raise InvalidRequest([FieldError("$", f"must be an object, got {kind_word(posted)}")])
    if "output_name" in posted and "job_id" not in posted:
        raise InvalidRequest([FieldError("$", _FLUX)], _FLUX)
    document = prepared(absolute_paths(posted, parts.cwd, exists=os.path.exists), parts.cwd, exists=os.path.exists)
    checked = check(parts, document, strict=strict)
    sealed = seal(document, options=keys_of(checked.backend, document))
    return Accepted(
        request=checked.request,
        backend=checked.backend.name,
        spec=checked.spec,
        document=sealed.document,
        secrets=sealed.values,
        warnings=checked.warnings,
    )


def check(parts: Parts, document: Mapping[str, Any], *, strict: bool = False, masked: bool = False) -> Checked:
    """Read a whole document and ask its backend; `masked`: it is one of our own, whose secrets are masks.

    Files that it names are read once; what was in them stands in the request and the spec, not in the document.
    Raises `InvalidRequest` with everything that is wrong, `UnknownBackend`, `BackendFault`.
    """
    whole = filled(document, masked=masked)
    read = structure(whole.document, TrainRequest, strict=strict, masked=masked)
    named = document.get("backend")
    name = named if isinstance(named, str) else parts.settings.backend
    request = read.value
    try:
        backend = parts.registry.get(name)
    except InvalidRequest as e:
        if request is not None:
            raise
        more = () if any(error.path == "backend" for error in read.errors) else e.errors
        raise _invalid([*read.errors, *more]) from e
    keys = keys_of(backend, document)
    options: Structured[Any] = structure(_options(whole.document), keys, strict=strict, masked=masked, prefix=PREFIX)
    wrong = [*whole.errors, *options.errors]
    errors = [*read.errors, *wrong]
    if request is not None and not wrong:
        try:
            errors += errors_of(backend, request)
        except OSError as e:  # a path of the document that can't even be looked at
            errors.append(FieldError("$", f"names a path that {name} can't look at: {str(e)[:300]}"))
    if errors:
        raise _invalid(errors)
    assert request is not None
    spec = spec_of(backend, request)
    if parts.settings.allow_command is False and (forbidden := _programs(request, spec)):
        raise _invalid(forbidden)  # whatever a backend of others checks
    if spec.engine == "command" and base_url(parts.settings, backend) is None:
        raise _invalid([FieldError(f"{PREFIX}.command", _NO_URL.format(backend.name))])
    return Checked(
        request=request,
        backend=backend,
        spec=spec,
        warnings=(*read.warnings, *options.warnings, *spec.warnings),
    )


def _programs(request: TrainRequest, spec: JobSpec) -> list[FieldError]:
    """Every field that starts a program of the caller's own."""
    if spec.engine == "command":
        return [FieldError(f"{PREFIX}.command", _NOT_ALLOWED)]
    if spec.engine != "diffusion":
        return []
    will_run = options_given(request.extra_parameters.options) | options_given(_extra(spec.request))
    return [FieldError(f"{PREFIX}.{name}", _NO_SCRIPT) for name in scripts_of(will_run)]


def keys_of(backend: BaseTrainerBackend, document: Mapping[str, Any]) -> type[Any]:
    """The keys of `extra_parameters` that a document's backend and engine have."""
    extra = _extra(document)
    named = extra.get("engine")
    return options_with(backend.Options, "command" if named is None and extra.get("command") is not None else named)


def _invalid(errors: Sequence[FieldError]) -> InvalidRequest:
    """All of them, each once: a mask among the options is seen by both readings."""
    once = list(dict.fromkeys(errors))
    return InvalidRequest(once, f"{len(once)} fields are wrong" if len(once) > 1 else None)


def _extra(document: Mapping[str, Any]) -> Mapping[str, Any]:
    given = document.get(PREFIX)
    return given if isinstance(given, dict) else {}


def _options(document: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of `extra_parameters` that no common field takes; they are read also where something else is wrong."""
    known = shape_of(ExtraParameters).fields
    return {name: value for name, value in _extra(document).items() if name not in known}
