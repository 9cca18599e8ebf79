"""The machine of the service itself as a backend."""
