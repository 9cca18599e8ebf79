"""Options of the noise that a model learns to take away, and of how its error is weighed."""

from functools import partial
from typing import Annotated, Literal

from attrs import frozen

from schemas.diffusion.optimizer_options import OptimizerOptions
from schemas.diffusion.option import option
from schemas.limits import Length, Range
from schemas.train_terms import AtLeastOne, Count, Fraction, NotNegative, Positive

Timestep = Annotated[float, Range(ge=0, le=1000)]
Timesteps = Annotated[tuple[Timestep, ...], Length(min=1, noun="a list of numbers")]
Spacing = Literal["leading", "linspace", "trailing"]

_loss = partial(option, "loss")


@frozen(kw_only=True)
class LossOptions(OptimizerOptions):
    """How noise is drawn and errors are counted."""

    loss_type: Literal["l2", "huber", "smooth_l1"] = _loss("l2", "how an error is measured")
    huber_schedule: Literal["snr", "exponential", "constant"] = _loss(
        "snr", "how huber_c follows the noise; of huber and smooth_l1"
    )
    huber_c: Positive = _loss(0.1, "where huber and smooth_l1 turn from squares to distances")
    snr_gamma: Positive | None = _loss(None, "min-SNR weighting, of epsilon and v models; none: off")
    use_soft_min_snr: bool = _loss(False, "with snr_gamma: the soft form of it")
    offset_noise: bool = _loss(False, "add noise that is the same all over a channel; of epsilon and v models")
    noise_offset: NotNegative = _loss(0.1, "with offset_noise: how much")
    noise_offset_probability: Fraction = _loss(0.25, "with offset_noise: how often")
    input_perturbation: NotNegative = _loss(0, "more noise in the input than in the target; of epsilon models")
    input_perturbation_steps: Count = _loss(0, "steps in which it falls to zero; 0: it stays")
    timestep_bias_strategy: Literal["none", "earlier", "later", "range"] = _loss(
        "none", "timesteps that are drawn more often; of epsilon and v models"
    )
    timestep_bias_multiplier: Positive = _loss(1.0, "how much more often")
    timestep_bias_begin: Timestep = _loss(0, "of range: its beginning")
    timestep_bias_end: Timestep = _loss(1000, "of range: its end")
    timestep_bias_portion: Fraction = _loss(0.25, "of earlier and later: the share that is meant")
    disable_segmented_timestep_sampling: bool = _loss(
        False, "draw each timestep of a batch by itself, not one from each part of them"
    )
    inference_scheduler_timestep_spacing: Spacing = _loss("trailing", "which timesteps there are in sampling")
    flow_schedule_shift: NotNegative = _loss(3.0, "how far flow timesteps are moved to noise; 0: not")
    flow_schedule_auto_shift: bool = _loss(False, "move them as the resolution asks instead")
    flow_sigmoid_scale: Positive = _loss(1.0, "spread of flow timesteps around the middle")
    flow_use_uniform_schedule: bool = _loss(False, "draw flow timesteps evenly")
    flow_use_beta_schedule: bool = _loss(False, "draw flow timesteps from a beta distribution")
    flow_beta_schedule_alpha: Positive = _loss(2.0, "its alpha")
    flow_beta_schedule_beta: Positive = _loss(2.0, "its beta")
    flow_custom_timesteps: Timesteps | None = _loss(None, "draw from these timesteps alone")
    flux_guidance_mode: Literal["constant", "random-range"] = _loss(
        "constant", "the guidance that a distilled Flux is told in training"
    )
    flux_guidance_value: NotNegative = _loss(1.0, "of constant")
    flux_guidance_min: NotNegative = _loss(0.0, "of random-range: the least")
    flux_guidance_max: NotNegative = _loss(4.0, "of random-range: the most")
    flux_fast_schedule: bool = _loss(False, "train Flux on the few timesteps of schnell alone")
    flux_attention_masked_training: bool = _loss(False, "hide the padding of a prompt from Flux")
    t5_padding: Literal["zero", "unmodified"] = _loss("unmodified", "what the padding of a T5 embedding holds")
    tokenizer_max_length: AtLeastOne | None = _loss(None, "tokens of a prompt that T5 reads; none: the family's")
