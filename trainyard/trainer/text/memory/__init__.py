"""What a job will need of memory, part by part, and what it took."""
