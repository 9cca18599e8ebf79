"""Options of the model that is trained, and of the number formats that it is held in."""

from functools import partial
from typing import Annotated, Final, Literal

from attrs import frozen

from schemas.diffusion.option import option
from schemas.limits import Holds
from schemas.train_terms import Count, Name, Text

ModelType = Literal["full", "lora"]
Mixed = Literal["no", "fp16", "bf16"]
BasePrecision = Literal["no_change", "int8-quanto", "int8-torchao"]
Prediction = Literal["epsilon", "v_prediction", "flow_matching"]

FamilyName = Annotated[str, Holds(lambda text: not text or text.replace("_", "").isalnum(), "the name of a family")]

_QUANTISATIONS: Final = (
    *("int4-quanto", "int2-quanto", "fp8-quanto", "fp8uz-quanto", "int8dq-torchao"),
    *("int8dq-int4-torchao", "int4-torchao", "fp8-torchao", "fp8-native", "nf4-bnb"),
)
_SPELLED: Final = {"pixart": "pixart_sigma"}

_model = partial(option, "model")


@frozen(kw_only=True)
class ModelOptions:
    """What is trained."""

    model_family: FamilyName = _model("", "none: the one that a local model's model_index.json names", values=_SPELLED)
    model_flavour: Name | None = _model(None, "none: the family's usual one")
    model_type: ModelType = _model("full", "what is trained: all weights, or an adapter")
    pretrained_model_name_or_path: Text | None = _model(
        None, "hub id, diffusers folder or single file; none: the flavour's hub id", path=True
    )
    pretrained_transformer_model_name_or_path: Text | None = _model(None, "the transformer from elsewhere", path=True)
    pretrained_transformer_subfolder: str = _model("transformer", "where in it the transformer lies", empty=True)
    pretrained_unet_model_name_or_path: Text | None = _model(None, "the U-Net from elsewhere", path=True)
    pretrained_unet_subfolder: str = _model("unet", "where in it the U-Net lies", empty=True)
    pretrained_vae_model_name_or_path: Text | None = _model(None, "the VAE from elsewhere", path=True)
    pretrained_t5_model_name_or_path: Text | None = _model(None, "the T5 encoder from elsewhere", path=True)
    pretrained_clip_model_name_or_path: Text | None = _model(None, "the CLIP encoder from elsewhere", path=True)
    revision: Text | None = _model(None, "hub revision")
    variant: Text | None = _model(None, "variant of the weight files, such as fp16")
    mixed_precision: Mixed = _model("bf16", "what the model computes in; no: fp32", later=("fp8",))
    base_model_precision: BasePrecision = _model(
        "no_change",
        "how the frozen base of an adapter is held; bf16 is a spelling of no_change",
        values={"bf16": "no_change"},
        later=_QUANTISATIONS,
    )
    base_model_default_dtype: Literal["bf16", "fp32"] = _model("bf16", "what is not quantised of a quantised base")
    quantize_via: Literal["cpu", "accelerator"] = _model(
        "accelerator", "where a base is quantised", later=("pipeline",)
    )
    vae_dtype: Literal["default", "fp32", "fp16", "bf16"] = _model(
        "bf16", "what the VAE computes in; default: as its files are"
    )
    disable_tf32: bool = _model(False, "keep fp32 products exact on GPUs that would round them")
    clip_skip: Count = _model(0, "hidden layers of a CLIP encoder that are skipped, counted from the last")
    prediction_type: Prediction | None = _model(
        None, "what the model predicts; none: as the family does", later=("sample",)
    )
    rescale_betas_zero_snr: bool = _model(False, "let the noisiest step be pure noise; for epsilon and v models")
