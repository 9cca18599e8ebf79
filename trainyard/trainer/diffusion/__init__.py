"""The diffusion engine: fine-tuning of image models over diffusers, accelerate, peft and LyCORIS."""
