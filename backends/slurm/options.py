"""The keys of `extra_parameters` that `slurm` has of its own."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from attrs import fields, frozen

from schemas.limits import Doc, Matches
from schemas.train_terms import AtLeastOne

_WORD: Final = Matches(r"[\w.:,@+-]+", "a name of Slurm's: letters, digits and . : , @ + - _")
_FEATURES: Final = Matches(r"[\w.:,@+*&|()\[\]-]+", "features, which & | [ ] ( ) * may join")


@frozen(kw_only=True)
class SlurmOptions:
    """Keys of `extra_parameters` for a Slurm cluster; `resources` are those of each node."""

    nodes: Annotated[AtLeastOne, Doc("machines; `resources` are those of each")] = 1
    partition: Annotated[str | None, _WORD, Doc("default: TRAINYARD_SLURM_PARTITION, else the cluster's own")] = None
    account: Annotated[str | None, _WORD, Doc("default: TRAINYARD_SLURM_ACCOUNT, else the user's own")] = None
    qos: Annotated[str | None, _WORD, Doc("quality of service")] = None
    constraint: Annotated[str | None, _FEATURES, Doc("features that each node must have")] = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "SlurmOptions":
        """Of keys that were read before and found right; those of others are left alone."""
        given = {f.name: options[f.name] for f in fields(cls) if options.get(f.name) is not None}
        return cls(**given)
