"""Readers of an event stream, a process of its own with bare sockets: counts bytes, and looks for the last event.

`python -m benchmarks.listen '{"port": …, "readers": 200}'` prints one JSON line.
"""

import json
import select
import socket
import sys
import time
from typing import Final

from attrs import asdict, frozen

from benchmarks.frames import LAST

_READ_BYTES: Final = 1 << 18
_LONGEST_SECONDS: Final = 60.0
_FIRST: Final = b"event: "


@frozen(kw_only=True)
class Heard:
    """From the first event at any reader to the last event at all of them."""

    seconds: float
    bytes: int
    reads: int


def listen(port: int, readers: int) -> Heard:
    """Read until every reader has the last event."""
    poll = select.epoll()
    links = {}
    for _ in range(readers):
        link = socket.create_connection(("127.0.0.1", port))
        link.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n\r\n".encode())
        links[link.fileno()] = link
        poll.register(link.fileno(), select.EPOLLIN)
    tails = dict.fromkeys(links, b"")
    waiting, began, total, reads = set(links), 0.0, 0, 0
    give_up = time.perf_counter() + _LONGEST_SECONDS
    while waiting:
        if time.perf_counter() > give_up:
            raise TimeoutError(f"{len(waiting)} readers have not got the last event")
        for descriptor, _ in poll.poll(1.0):
            data = links[descriptor].recv(_READ_BYTES)
            if not data:
                raise ConnectionError("the server closed a stream")
            if not began and _FIRST in data:
                began = time.perf_counter()
            total += len(data)
            reads += 1
            end = tails[descriptor] + data[-len(LAST) - 600 :]
            if LAST in end:
                waiting.discard(descriptor)
            tails[descriptor] = end[-len(LAST) :]
    return Heard(seconds=time.perf_counter() - began, bytes=total, reads=reads)


def main() -> None:
    """Carry out the order given as JSON."""
    sys.stdout.write(json.dumps(asdict(listen(**json.loads(sys.argv[1])))) + "\n")


if __name__ == "__main__":
    main()
