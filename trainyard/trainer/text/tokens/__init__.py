"""Rows made into tokens, and tokens into batches."""
