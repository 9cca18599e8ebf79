"""Options of the adapter that model type `lora` trains."""

from functools import partial
from typing import Annotated, Literal

from attrs import frozen

from schemas.diffusion.lycoris import LycorisFile
from schemas.diffusion.model_options import ModelOptions
from schemas.diffusion.option import option
from schemas.limits import Range
from schemas.train_terms import Fraction, Text

LoraType = Literal["standard", "lycoris"]
LoraInit = Literal["default", "gaussian"]

_adapter = partial(option, "adapter")


@frozen(kw_only=True)
class AdapterOptions(ModelOptions):
    """What an adapter is, and where it is put on."""

    lora_type: LoraType = _adapter("standard", "LoRA by peft, or the algorithms of LyCORIS")
    lora_rank: Annotated[int, Range(ge=1, le=256)] = _adapter(16, "rank; of LyCORIS where its file gives none")
    lora_alpha: Annotated[float, Range(ge=0.1)] | None = _adapter(None, "scaling; none: as the rank")
    lora_dropout: Fraction = _adapter(0.1, "share of an adapter's inputs that is dropped")
    lora_init_type: LoraInit = _adapter("default", "how an adapter's weights begin", later=("loftq", "olora", "pissa"))
    peft_lora_target_modules: tuple[Text, ...] | None = _adapter(
        None, "names of modules; wins over the family's named sets"
    )
    flux_lora_target: Text = _adapter("all", "the named set of Flux modules that an adapter is put on")
    use_dora: bool = _adapter(False, "train directions and lengths of the weights apart")
    lora_format: Literal["diffusers", "comfyui"] = _adapter(
        "diffusers", "names of the weights in the adapter's file; comfyui: those of Flux's own files"
    )
    lycoris_config: LycorisFile | Text | None = _adapter(
        None, "an object, or the path of a file with one; none: LoKr on attention and feed-forward", path=True
    )
