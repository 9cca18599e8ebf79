"""The wire contracts: what may be said over HTTP, as frozen classes, and nothing else."""
