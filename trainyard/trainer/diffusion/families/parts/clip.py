"""Prompts through a CLIP text encoder."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from attrs import frozen

from trainyard.trainer.diffusion.families.parts.components import load, tokenizer
from trainyard.trainer.diffusion.weights import Weights


@frozen(kw_only=True)
class Clip:
    """A tokenizer and an encoder, loaded when first asked; a prompt is padded, or cut, to the tokenizer's length."""

    weights: Weights
    #: Of the parts `tokenizer<number>` and `text_encoder<number>`.
    number: str
    dtype: torch.dtype
    device: torch.device
    #: With its projection.
    projected: bool = False

    @property
    def key(self) -> str:
        """Everything that its answers depend on but the prompt."""
        files = [self.weights.digest(f"{part}{self.number}") for part in ("tokenizer", "text_encoder")]
        return f"{' '.join(files)} {self.dtype}"

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import CLIPTokenizer

        return tokenizer(CLIPTokenizer, self.weights, f"tokenizer{self.number}")

    @cached_property
    def encoder(self) -> Any:
        from transformers import CLIPTextModel, CLIPTextModelWithProjection

        kind = CLIPTextModelWithProjection if self.projected else CLIPTextModel
        return load(kind, self.weights, f"text_encoder{self.number}", self.dtype, self.device)

    def ask(self, prompts: Sequence[str], hidden: bool) -> Any:
        """What the encoder says of a batch; `hidden`: with the states of all its layers."""
        told = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            return self.encoder(told.input_ids.to(self.device), output_hidden_states=hidden)

    def cut(self, prompt: str) -> int:
        """Tokens of a prompt beyond the tokenizer's length."""
        return max(
            0, len(self.tokenizer(prompt, truncation=False, verbose=False).input_ids) - self.tokenizer.model_max_length
        )
