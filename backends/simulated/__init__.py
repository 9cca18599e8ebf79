"""A backend that plays a job without training."""
