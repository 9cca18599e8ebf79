"""What the service, the backends and the trainer share; each module is one noun."""
