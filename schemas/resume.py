"""The document of `POST /train/{id}/resume`: what is to be different in the next attempt."""

from collections.abc import Mapping
from typing import Annotated, Any

from attrs import field, frozen

from schemas.limits import Doc
from schemas.train_terms import Name
from schemas.values import Secret


@frozen(kw_only=True)
class ResumeRequest:
    """All of it is optional; an empty object goes on as before."""

    backend: Annotated[Name | None, Doc("another registered backend")] = None
    tuning_parameters: Annotated[Mapping[str, Any], Doc("a merge patch")] = field(factory=dict)
    resources: Annotated[Mapping[str, Any], Doc("a merge patch")] = field(factory=dict)
    secrets: Annotated[Mapping[str, Secret], Doc("by the path of their field; they replace what was stored")] = field(
        factory=dict, repr=False
    )
