"""The path under which the usage guide names the backend class."""

from common.backend import BaseTrainerBackend

__all__ = ["BaseTrainerBackend"]
