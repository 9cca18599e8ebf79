"""Options of the optimizer, its learning rate, and the running mean of the weights."""

from functools import partial
from typing import Annotated, Final, Literal

from attrs import frozen

from schemas.diffusion.option import option
from schemas.diffusion.training_options import TrainingOptions
from schemas.limits import Range
from schemas.train_terms import AtLeastOne, Count, Fraction, NotNegative, Positive, Text

OptimizerName = Literal[
    "adamw_bf16", "torch-adamw", "torch-adam", "torch-sgd", "torch-adafactor",
    "optimi-adamw", "optimi-lion", "optimi-stableadamw", "optimi-adam", "optimi-adan", "optimi-radam",
    "optimi-ranger", "optimi-sgd",
    "bnb-adamw", "bnb-adamw8bit", "bnb-adamw-paged", "bnb-adamw8bit-paged",
    "bnb-lion", "bnb-lion8bit", "bnb-lion-paged", "bnb-lion8bit-paged",
    "bnb-ademamix", "bnb-ademamix8bit", "bnb-adagrad", "bnb-lamb",
]  # fmt: skip
SchedulerName = Literal[
    "linear", "sine", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"
]
Beta = Annotated[float, Range(ge=0, lt=1)]

_OPTIMIZERS: Final = (
    *("adamw_schedulefree", "prodigy", "soap", "muon"),
    *("ao-adamw8bit", "ao-adamw4bit", "ao-adamfp8", "ao-adamwfp8"),
)

_optimizer = partial(option, "optimizer")


@frozen(kw_only=True)
class OptimizerOptions(TrainingOptions):
    """How weights are moved."""

    learning_rate: Positive = _optimizer(4e-7, "at its highest")
    optimizer: OptimizerName = _optimizer(
        "adamw_bf16", "adamw is a spelling of torch-adamw", values={"adamw": "torch-adamw"}, later=_OPTIMIZERS
    )
    optimizer_config: Text | None = _optimizer(None, "more arguments for it, as name=value,name=value")
    adam_beta1: Beta = _optimizer(0.9, "memory of the gradient")
    adam_beta2: Beta = _optimizer(0.999, "memory of its square")
    adam_weight_decay: NotNegative = _optimizer(0.01, "pull of the weights towards zero, of every optimizer")
    adam_epsilon: Positive = _optimizer(1e-8, "what is added to the divisor")
    optimizer_beta1: Beta | None = _optimizer(None, "of any optimizer, with optimizer_beta2; none: adam_beta1")
    optimizer_beta2: Beta | None = _optimizer(None, "of any optimizer, with optimizer_beta1; none: adam_beta2")
    max_grad_norm: NotNegative = _optimizer(2.0, "limit of the gradients; 0: none")
    grad_clip_method: Literal["value", "norm"] = _optimizer("value", "whether each value is limited, or their norm")
    lr_scheduler: SchedulerName = _optimizer(
        "constant_with_warmup", "cosine_with_warmup is a spelling of cosine", values={"cosine_with_warmup": "cosine"}
    )
    lr_warmup_steps: Count = _optimizer(0, "steps in which the learning rate rises")
    lr_warmup_ratio: Fraction = _optimizer(0, "the same as a share of all steps, where lr_warmup_steps is 0")
    lr_num_cycles: AtLeastOne = _optimizer(1, "cycles of cosine_with_restarts and sine")
    lr_power: Positive = _optimizer(0.8, "exponent of polynomial")
    lr_end: NotNegative = _optimizer(4e-7, "where polynomial and sine end")
    ema_decay: Annotated[float, Range(gt=0, lt=1)] = _optimizer(0.995, "with use_ema: what is kept of the mean")
    ema_update_interval: AtLeastOne = _optimizer(1, "with use_ema: steps between two updates")
    ema_warmup_steps: Count = _optimizer(0, "with use_ema: steps in which the mean is the weights themselves")
    ema_device: Literal["cpu", "accelerator"] = _optimizer("cpu", "with use_ema: where the mean lies")
    ema_validation: Literal["none", "ema_only", "comparison"] = _optimizer(
        "comparison", "with use_ema: pictures of the mean, of none of it, or of both"
    )
