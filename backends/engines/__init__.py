"""What our engines take, and what their runs are handed, on whatever machine they run."""
