"""What the service's log never holds."""

import logging
import sys

from aiohttp.http_exceptions import InvalidHeader

from service.journal import _short


def test_the_bytes_of_a_request_that_can_not_be_parsed_are_not_logged():
    try:
        raise InvalidHeader(b"Authorization: Bearer the-token\x01")
    except InvalidHeader:
        found = sys.exc_info()
    record = logging.LogRecord("aiohttp.server", logging.ERROR, "", 1, "Error handling %s", ("::1",), found)
    assert _short(record)
    said = logging.Formatter().format(record)
    assert "the-token" not in said
    assert "InvalidHeader" in said
