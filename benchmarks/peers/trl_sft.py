"""A plain TRL script: `python benchmarks/peers/trl_sft.py WORK`, WORK a JSON object.

Keys: model, rows, method (full, lora), packing (bfd, wrapped, off), length, batch, steps, warm, rate, output; dtype
(default fp32, on the CPU) and checkpointing for a GPU.
"""

import json
import sys
import time
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """When the first step ended, and how many tokens went through after the warm-up."""

    def __init__(self) -> None:
        self.first_step_at = 0.0
        self.seen: list[tuple[float, float]] = []

    def on_step_end(self, _args: Any, _state: Any, _control: Any, **_: Any) -> None:
        self.first_step_at = self.first_step_at or time.time()

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" in logs:
            self.seen.append((time.perf_counter(), logs["num_tokens"]))


def main(work: dict[str, Any]) -> None:
    """Train and print what was seen."""
    half = work.get("dtype", "fp32") == "bf16"
    arguments = SFTConfig(
        output_dir=work["output"],
        max_steps=work["steps"],
        per_device_train_batch_size=work["batch"],
        learning_rate=work["rate"],
        max_length=work["length"],
        packing=work["packing"] != "off",
        packing_strategy="bfd" if work["packing"] == "off" else work["packing"],
        gradient_checkpointing=work.get("checkpointing", False),
        bf16=half,
        use_cpu=not half,
        logging_steps=work["warm"],
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        model_init_kwargs={"dtype": "bfloat16" if half else "float32"},
    )
    lora = LoraConfig(r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear", task_type="CAUSAL_LM")
    clock = Clock()
    trainer = SFTTrainer(
        work["model"],
        args=arguments,
        train_dataset=load_dataset("json", data_files=work["rows"], split="train"),
        peft_config=lora if work["method"] == "lora" else None,
        callbacks=[clock],
    )
    trainer.train()
    (began, before), (ended, after) = clock.seen[0], clock.seen[-1]
    speed = (after - before) / (ended - began)
    peak = torch.cuda.max_memory_allocated() if half else 0
    print(json.dumps({"first_step_at": clock.first_step_at, "tokens_per_second": speed, "peak_bytes": peak}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
