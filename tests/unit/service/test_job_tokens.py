"""Where runs are told to post."""

import pytest

from common.settings import Settings
from service.job_tokens import base_url


class Here:
    on_this_machine = True


class Elsewhere:
    on_this_machine = False


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("0.0.0.0", "http://127.0.0.1:8001"),
        ("::", "http://127.0.0.1:8001"),
        ("localhost", "http://127.0.0.1:8001"),
        ("192.0.2.7", "http://192.0.2.7:8001"),
        ("::1", "http://[::1]:8001"),
    ],
)
def test_a_run_on_this_machine_posts_to_the_address_that_is_listened_on(host: str, base: str) -> None:
    assert base_url(Settings(host=host, public_url="https://trainyard.example.org"), Here()) == base


def test_a_run_elsewhere_posts_to_the_public_url_and_nobody_guesses_one() -> None:
    assert (
        base_url(Settings(public_url="https://trainyard.example.org"), Elsewhere()) == "https://trainyard.example.org"
    )
    assert base_url(Settings(), Elsewhere()) is None
