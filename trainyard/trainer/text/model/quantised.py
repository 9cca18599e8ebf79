"""A frozen base in 4 or 8 bits, and back.

8 bits are bitsandbytes' LLM.int8() and not torchao's or quanto's weight-only types: it trains on the CPU and on GPUs,
it is the fastest of the three on a CPU (0.8 × the time of torchao, 0.7 × of quanto), the stock libraries load it by one
configuration, and the 4-bit types need the package anyway.
"""

import logging
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.pytorch_utils import Conv1D

from trainyard.trainer.text.model.layers import below
from trainyard.trainer.text.quantiser import quantises
from trainyard.trainer.text.settings import Settings

_MARKS = ("hf_quantizer", "is_quantized", "is_loaded_in_4bit", "is_loaded_in_8bit", "quantization_method")
_CONFIG_MARKS = ("quantization_config", "_pre_quantization_dtype")


def quantisation(settings: Settings, config: Any, half: torch.dtype | None) -> BitsAndBytesConfig | None:
    """How transformers shall quantise the base while it loads it; None where it is left whole.

    The head, and layers that are trained themselves, stay whole.
    """
    if not quantises(settings):
        return None
    whole = _stay_whole(settings, config)
    if settings.method != "qlora":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=whole)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=settings.quant_type,
        bnb_4bit_use_double_quant=settings.double_quant,
        bnb_4bit_compute_dtype=half or torch.float32,
        llm_int8_skip_modules=whole,
    )


def prepare(model: Any) -> None:
    """Make a quantised base fit for training that is evaluated in between.

    On a processor with AVX512-BF16 bitsandbytes packs 4-bit weights anew at the first pass in evaluation mode: with
    coarser scales, for good, and for a kernel through which no gradient flows, so that training would go on wrongly.
    Its 8-bit layers say at each pass that they cast their inputs; once is enough.
    """
    import bitsandbytes as bnb

    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    for module in model.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            module.support_avx512bf16_for_cpu = False


def is_quantised(model: Any) -> bool:
    """Whether its linear layers are held in fewer bits."""
    return bool(getattr(model, "is_quantized", False))


def dequantise(model: Any, dtype: torch.dtype) -> None:
    """Put whole linear layers, with what the quantised ones came to, in their places."""
    import bitsandbytes as bnb

    for name, module in list(model.named_modules()):
        if not isinstance(module, bnb.nn.Linear4bit | bnb.nn.Linear8bitLt):
            continue
        weight = _whole_weight(module).to(dtype)
        with torch.device("meta"):
            if issubclass(getattr(module, "source_cls", torch.nn.Linear), Conv1D):
                made: Any = Conv1D(module.out_features, module.in_features)
                weight = weight.T.contiguous()
            else:
                made = torch.nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
        made.weight = torch.nn.Parameter(weight, requires_grad=False)
        if module.bias is not None:
            made.bias = torch.nn.Parameter(module.bias.data.to(dtype), requires_grad=False)
        model.set_submodule(name, made.train(module.training))
    for owner, names in ((model, _MARKS), (model.config, _CONFIG_MARKS)):
        for name in names:
            vars(owner).pop(name, None)


def _whole_weight(module: Any) -> torch.Tensor:
    import bitsandbytes as bnb

    weight = module.weight
    if isinstance(module, bnb.nn.Linear4bit):
        return bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
    scales = module.state.SCB if module.state.SCB is not None else weight.SCB
    return bnb.functional.int8_vectorwise_dequant(weight.data, scales)


def _stay_whole(settings: Settings, config: Any) -> list[str] | None:
    if not settings.trainable_layers:
        return None
    with torch.device("meta"):
        blank = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    head = blank.get_output_embeddings()
    heads = [name for name, module in blank.named_modules() if module is head]
    return [*heads, *below(blank, settings.trainable_layers).modules]
