"""The LyCORIS file: which algorithm is put on which modules (contract of the SimpleTuner API, 8.4)."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from attrs import field, frozen

from schemas.limits import Doc
from schemas.trail import Trail
from schemas.train_terms import AtLeastOne, NotNegative, Positive, Text

Algorithm = Literal["lokr", "loha", "locon", "lora", "full"]

Overrides = Mapping[Text, Mapping[str, Any]]


@frozen(kw_only=True)
class LycorisPreset:
    """`apply_preset`: the modules that are trained, and what is different for some of them."""

    target_module: Annotated[tuple[Text, ...], Doc("class names of modules")] = ()
    target_name: Annotated[tuple[Text, ...], Doc("names of modules; * stands for anything")] = ()
    exclude_name: Annotated[tuple[Text, ...], Doc("names of modules that are left alone")] = ()
    module_algo_map: Annotated[Overrides, Doc("settings of modules by class name")] = field(factory=dict)
    name_algo_map: Annotated[Overrides, Doc("settings of modules by name")] = field(factory=dict)


@frozen(kw_only=True)
class LycorisFile:
    """An adapter of LyCORIS."""

    algo: Annotated[Algorithm, Doc("the algorithm; locon and lora are one")]
    multiplier: Annotated[Positive, Doc("strength of the adapter")] = 1.0
    linear_dim: Annotated[AtLeastOne | None, Doc("rank; none: lora_rank")] = None
    linear_alpha: Annotated[NotNegative | None, Doc("scaling; none: lora_alpha, else as the rank")] = None
    factor: Annotated[int | None, Doc("LoKr: size of the smaller factor; -1: as near to a square as can be")] = None
    full_matrix: Annotated[bool, Doc("LoKr: factors are not cut into ranks")] = False
    apply_preset: Annotated[LycorisPreset, Doc("which modules, and how")] = LycorisPreset()

    @classmethod
    def settle(cls, given: dict[str, Any], _document: Mapping[str, Any], trail: Trail) -> None:
        """LoKr alone has factors."""
        if given.get("factor", 1) < 1 and given["factor"] != -1:
            trail.error(f"must be at least 1, or -1, got {given['factor']}", "factor")
        preset = given.get("apply_preset")
        if preset is not None and not (preset.target_module or preset.target_name):
            trail.error("needs target_module or target_name: without them nothing is trained", "apply_preset")


#: Targets that are there in every family's transformer.
Attention: Final = "Attention"
FeedForward: Final = "FeedForward"

#: What is trained where no file says it.
USUAL: Final = LycorisFile(
    algo="lokr",
    multiplier=1.0,
    full_matrix=True,
    linear_alpha=1,
    factor=16,
    apply_preset=LycorisPreset(
        target_module=(Attention, FeedForward),
        module_algo_map={Attention: {"factor": 16}, FeedForward: {"factor": 8}},
    ),
)
