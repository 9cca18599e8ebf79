"""A Slurm cluster as a backend, over its command line."""
