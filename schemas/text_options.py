"""The text engine's own keys of `extra_parameters`, which every backend that runs it takes."""

from collections.abc import Mapping
from typing import Annotated, Any

from attrs import frozen

from schemas.limits import Doc
from schemas.train_terms import AtLeastOne


@frozen(kw_only=True)
class TextOptions:
    """Keys of `extra_parameters` for language models."""

    processes: Annotated[AtLeastOne | None, Doc("processes of a run on the CPU; on GPUs there is one for each")] = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "TextOptions":
        """Of keys that were read before and found right; those of others are left alone."""
        return cls(processes=options.get("processes"))
