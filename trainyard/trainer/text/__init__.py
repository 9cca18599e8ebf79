"""Text models: fine-tuning of causal language models."""
