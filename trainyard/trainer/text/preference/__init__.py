"""Objectives that TRL's trainers have and ours has not, through the same reporting and checkpoints."""
