"""A real, tiny language model made on the spot: for tests of whatever loads, trains or saves one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PLAIN_TEXTS = tuple(
    f"Job number {n} ran for {n * 7 % 60} minutes on {n % 4} devices and kept {n % 5} checkpoints in its folder."
    for n in range(64)
)


def make_tiny_llama(
    folder: Path,
    texts: Sequence[str] = PLAIN_TEXTS,
    hidden: int = 32,
    layers: int = 2,
    vocab: int = 512,
    positions: int = 256,
    template: str | None = None,
) -> Path:
    """Write a Llama with random weights (seeded) and a byte-level BPE tokenizer trained on `texts` into `folder`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    fast = make_tokenizer(folder, texts, vocab, template)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=hidden,
        intermediate_size=hidden * 4,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        tie_word_embeddings=True,
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        bos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def make_tokenizer(
    folder: Path, texts: Sequence[str] = PLAIN_TEXTS, vocab: int = 512, template: str | None = None
) -> "PreTrainedTokenizerFast":
    """Write a byte-level BPE tokenizer trained on `texts` into `folder`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|pad|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=vocab, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    fast.chat_template = template
    fast.save_pretrained(folder)
    return fast


def make_tiny(kind: str, folder: Path, texts: Sequence[str] = PLAIN_TEXTS) -> Path:
    """Write a model of one of `KINDS`, two layers of width 32, with random weights (seeded) and a tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if kind == "llama":
        return make_tiny_llama(folder, texts)
    fast = make_tokenizer(folder, texts)
    config = AutoConfig.for_model(
        kind,
        vocab_size=len(fast),
        eos_token_id=fast.eos_token_id,
        pad_token_id=fast.pad_token_id,
        bos_token_id=None,
        **_SHAPES[kind],
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


_GROUPED: dict[str, object] = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_SHAPES: dict[str, dict[str, object]] = {
    "qwen2": _GROUPED | {"tie_word_embeddings": True},
    "mistral": _GROUPED | {"sliding_window": 128},
    "gemma2": _GROUPED | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 128},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
}
KINDS = ("llama", *_SHAPES)
