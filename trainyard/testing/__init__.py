"""The conformance suite for backends, shipped in the package: what "works" means for a backend (docs/BACKENDS.md).

It needs pytest and pytest-asyncio (`pip install 'trainyard[testing]'`); nothing else of Trainyard imports it.
"""

from trainyard.testing.fixtures import BackendFixtures
from trainyard.testing.play import Play
from trainyard.testing.service import Document, RunningService
from trainyard.testing.suite import BackendConformance

__all__ = ["BackendConformance", "BackendFixtures", "Document", "Play", "RunningService"]
