"""The program that runs a job: `python -m trainyard.trainer JOBDIR` (docs/TRAINER.md)."""
