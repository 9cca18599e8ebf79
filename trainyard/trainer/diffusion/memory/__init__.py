"""How much memory a job will need, part by part, and how much its steps took."""
