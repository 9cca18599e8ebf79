"""What a model says: `python samples.py` reads a list of asks from standard input and writes their texts as JSON.

An ask is `{"model": folder, "adapter": folder or null, "prompt": text}`. It is a program of its own because it
imports torch, which the demo itself does not.
"""

import json
import sys
from typing import Any

_NEW_TOKENS = 60


def say(model: str, adapter: str | None, prompt: str) -> str:
    """How the model goes on after the prompt: its likeliest tokens, to the end of its answer or 60 of them."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(model)
    speaker: Any = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    if adapter is not None:
        speaker = PeftModel.from_pretrained(speaker, adapter)
    asked = tokenizer(prompt, return_tensors="pt")
    with torch.no_grad():
        ids = speaker.generate(
            input_ids=asked["input_ids"],
            attention_mask=asked["attention_mask"],
            max_new_tokens=_NEW_TOKENS,
            do_sample=False,
            repetition_penalty=1.2,
        )[0]
    return str(tokenizer.decode(ids[asked["input_ids"].shape[1] :], skip_special_tokens=True))


if __name__ == "__main__":
    texts = [say(ask["model"], ask["adapter"], ask["prompt"]) for ask in json.load(sys.stdin)]
    json.dump(texts, sys.stdout)
