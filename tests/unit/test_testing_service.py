"""The service of the conformance suite, before it is started."""

import socket

import pytest

from common.settings import Settings
from trainyard.testing.service import RunningService


async def test_its_port_is_given_to_nobody_while_it_is_stopped(settings: Settings) -> None:
    service = RunningService(settings, 1.0)
    with socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(("127.0.0.1", service.settings.port))
    await service.start()
    await service.restart()
    assert await service.get("/healthz")
    await service.end()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", service.settings.port))
