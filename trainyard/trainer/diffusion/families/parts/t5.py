"""Prompts through a T5 encoder."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen

from trainyard.trainer.diffusion.families.parts.components import computed_in, load, tokenizer
from trainyard.trainer.diffusion.weights import Weights

if TYPE_CHECKING:
    from schemas.diffusion import Options


@frozen(kw_only=True)
class T5:
    """A tokenizer and an encoder, loaded when first asked; every prompt is padded, or cut, to `length` tokens."""

    weights: Weights
    #: Of the parts `tokenizer<number>` and `text_encoder<number>`.
    number: str
    length: int
    dtype: torch.dtype
    device: torch.device
    #: Whether the encoder is kept from seeing the padding.
    masked: bool
    #: Whether the padding's states are made zero.
    zero: bool = False

    @classmethod
    def of(
        cls, weights: Weights, options: "Options", number: str, length: int, device: torch.device, masked: bool
    ) -> "T5":
        """As the options say; `length` is the family's."""
        return cls(
            weights=weights,
            number=number,
            length=options.tokenizer_max_length or length,
            dtype=computed_in(options),
            device=device,
            masked=masked,
            zero=options.t5_padding == "zero",
        )

    @property
    def key(self) -> str:
        """Everything that its answers depend on but the prompt."""
        files = [self.weights.digest(f"{part}{self.number}") for part in ("tokenizer", "text_encoder")]
        return f"{' '.join(files)} {self.length} {self.dtype} {self.masked} {self.zero}"

    @cached_property
    def tokenizer(self) -> Any:
        from transformers import T5TokenizerFast

        return tokenizer(T5TokenizerFast, self.weights, f"tokenizer{self.number}")

    @cached_property
    def encoder(self) -> Any:
        from transformers import T5EncoderModel

        return load(T5EncoderModel, self.weights, f"text_encoder{self.number}", self.dtype, self.device)

    def encode(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """(b, length, d) in the encoder's precision, and (b, length): 1 where a token is, 0 where it is padding."""
        told = self.tokenizer(
            list(prompts), padding="max_length", max_length=self.length, truncation=True, return_tensors="pt"
        )
        mask = told.attention_mask.to(self.device)
        seen = {"attention_mask": mask} if self.masked else {}
        with torch.no_grad():
            words = self.encoder(told.input_ids.to(self.device), **seen)[0]
        return words * mask[..., None].to(words.dtype) if self.zero else words, mask

    def cut(self, prompt: str) -> int:
        """Tokens of a prompt beyond `length`."""
        return max(0, len(self.tokenizer(prompt, truncation=False, verbose=False).input_ids) - self.length)
