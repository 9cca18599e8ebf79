"""What the diffusion engine takes, and what its runs are handed."""
