"""A stock Hugging Face `Trainer` script: nothing in it knows of Trainyard, and its progress is shown all the same."""

import sys

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

model_folder, output, steps = sys.argv[1], sys.argv[2], int(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(model_folder)
texts = [f"Job number {n} ran for {n * 7 % 60} minutes on {n % 4} devices." for n in range(256)]
rows = tokenizer(texts, padding="max_length", truncation=True, max_length=32)
rows["labels"] = rows["input_ids"]
trainer = Trainer(
    AutoModelForCausalLM.from_pretrained(model_folder),
    TrainingArguments(output, max_steps=steps, per_device_train_batch_size=4, logging_steps=5, save_strategy="no"),
    train_dataset=Dataset.from_dict(dict(rows)),
)
trainer.train()
trainer.save_model()
