"""The loss of a micro batch and of the held-out rows, summed over the tokens that are learned."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from peft import PeftModel
from torch.nn.functional import cross_entropy

from trainyard.trainer.text.batches import IGNORED, Micro, collate
from trainyard.trainer.text.tokens import Example

_EVALUATED_AT_ONCE = 8


class Loss:
    """Cross entropy, summed; the head is computed only at columns where some row has a target."""

    def __init__(self, model: Any, precision: str, device: torch.device) -> None:
        self._model = model
        self._device = device
        self._half = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision)
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._picks = "logits_to_keep" in inspect.signature(base.forward).parameters

    def __call__(self, micro: Micro) -> torch.Tensor:
        """Of one micro batch."""
        labels = micro.labels[:, 1:]
        columns = (labels != IGNORED).any(0).nonzero().squeeze(1)
        picked = {"logits_to_keep": columns} if self._picks else {}
        with torch.autocast(self._device.type, self._half, enabled=self._half is not None):
            logits = self._model(input_ids=micro.ids, use_cache=False, **picked).logits
        if not self._picks:
            logits = logits[:, columns]
        labels = labels[:, columns]
        learned = labels != IGNORED
        return cross_entropy(logits[learned].float(), labels[learned], reduction="sum")

    def held_out(self, examples: Sequence[Example], pad: int, check: Callable[[], None]) -> dict[str, float]:
        """The mean loss of a token over rows that are not trained on; `check` is called before each batch."""
        alike = sorted(examples, key=len)
        total, targets = 0.0, 0
        self._model.eval()
        try:
            for at in range(0, len(alike), _EVALUATED_AT_ONCE):
                check()
                some = alike[at : at + _EVALUATED_AT_ONCE]
                with torch.no_grad():
                    total += self(collate(some, pad, self._device)).item()
                targets += sum(e.targets for e in some)
        finally:
            self._model.train()
        return {"eval_loss": total / targets, "eval_tokens": targets}
