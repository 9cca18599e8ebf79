"""All options of the diffusion engine in one class."""

from collections.abc import Mapping
from typing import Any

import attrs
from attrs import frozen

from schemas.diffusion import later
from schemas.diffusion.elsewhere import SAID_BY, TAKEN, ServiceOptions
from schemas.diffusion.reporting_options import ReportingOptions
from schemas.diffusion.spelling import respelled, undashed
from schemas.trail import Trail


@frozen(kw_only=True)
class Options(ReportingOptions):
    """Options of a diffusion job: keys of `extra_parameters`."""

    @classmethod
    def respell(cls, document: Mapping[str, Any], trail: Trail) -> dict[str, Any]:
        """In the words of this class; what this version does not do, and what other fields say, is an error."""
        given = undashed(document)
        for item in attrs.fields(ServiceOptions):
            value = given.pop(item.name, None)
            usual = value is None or value == item.default or str(value) == str(item.default)
            if not usual and item.name not in TAKEN:
                trail.error(f"is said by {SAID_BY[item.name]} here; leave it out", item.name)
        return respelled(cls, given, trail, later=later.OPTIONS, beginnings=later.FAMILIES_OF_OPTIONS)
