"""A tiny Llama with random weights and a byte-level BPE tokenizer of its own: `python tiny_model.py FOLDER`."""

import hashlib
import shutil
import sys
from pathlib import Path

import corpus

VOCABULARY = 2048
_END, _PAD = "<|end|>", "<|pad|>"
# The handbook's own way to write a question and its answer, so that the second job builds on the first one's habits.
TEMPLATE = (
    "{% for m in messages %}"
    "{{ ('A: ' + m['content'] + eos_token if m['role'] == 'assistant' else 'Q: ' + m['content']) + '\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'A:' }}{% endif %}"
)


def place(folder: Path) -> Path:
    """Where the model is kept: named after everything it is made of, so that a change makes a new one."""
    made_of = Path(__file__).read_text(encoding="utf-8") + "\n".join(corpus.paragraphs())
    return folder / f"tiny-llama-{hashlib.sha256(made_of.encode()).hexdigest()[:8]}"


def make(folder: Path) -> None:
    """Write model and tokenizer into `folder`, whole or not at all."""
    aside = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(aside, ignore_errors=True)
    _write_model(aside, _write_tokenizer(aside))
    aside.rename(folder)


def _write_tokenizer(folder: Path) -> tuple[int, int]:
    """The ids of the end and of the padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[_END, _PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus.paragraphs(), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=_END, pad_token=_PAD)
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    return fast.eos_token_id, fast.pad_token_id


def _write_model(folder: Path, ids: tuple[int, int]) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=ids[0],
        pad_token_id=ids[1],
        bos_token_id=None,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(f"usage: python {sys.argv[0]} FOLDER")
    make(Path(sys.argv[1]))
