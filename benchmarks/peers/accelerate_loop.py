"""A hand-written accelerate loop: `python benchmarks/peers/accelerate_loop.py WORK`, WORK as for `trl_sft`.

It cuts the rows, one after the other, into blocks of exactly `length` tokens: nothing is padded, nothing is masked.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from transformers import AutoModelForCausalLM, AutoTokenizer, get_linear_schedule_with_warmup


def blocks(work: dict[str, Any]) -> torch.Tensor:
    """All tokens of all rows, cut."""
    tokenizer = AutoTokenizer.from_pretrained(work["model"])
    texts = [json.loads(line)["text"] for line in Path(work["rows"]).read_text().splitlines()]
    ids = [i for row in tokenizer(texts)["input_ids"] for i in [*row, tokenizer.eos_token_id]]
    whole = len(ids) // work["length"]
    return torch.tensor(ids[: whole * work["length"]]).view(whole, work["length"])


def main(work: dict[str, Any]) -> None:
    """Train and print what was seen."""
    torch.manual_seed(42)
    accelerator = Accelerator(cpu=True)
    model = AutoModelForCausalLM.from_pretrained(work["model"], dtype=torch.float32)
    if work["method"] == "lora":
        from peft import LoraConfig, get_peft_model

        lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM")
        model = get_peft_model(model, lora)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=work["rate"], weight_decay=0.0, fused=True)
    loader: Any = torch.utils.data.DataLoader(blocks(work), batch_size=work["batch"], shuffle=True, drop_last=True)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    schedule = get_linear_schedule_with_warmup(optimizer, 0, work["steps"])
    model.train()
    step, tokens, began, first_step_at = 0, 0, 0.0, 0.0
    while step < work["steps"]:
        for ids in loader:
            loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            first_step_at = first_step_at or time.time()
            tokens += ids.numel() if began else 0
            if step == work["warm"]:
                began = time.perf_counter()
            if step == work["steps"]:
                break
    speed = tokens / (time.perf_counter() - began)
    print(json.dumps({"first_step_at": first_step_at, "tokens_per_second": speed, "peak_bytes": 0}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
