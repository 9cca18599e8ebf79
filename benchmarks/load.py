"""The load generator, a process of its own: so many keep-alive connections, each one POST after the other.

`python -m benchmarks.load '{"port": …, "path": "/train", …}'` prints one JSON line. It uses bare sockets and epoll, and
makes a request by putting three byte strings together, so that it costs a small part of what any of the servers does.
"""

import json
import select
import socket
import statistics
import sys
import time
from typing import Final

from attrs import asdict, define, frozen

from benchmarks.document import GUIDE, SHORT, cut_at_id, job_id, played

_READ_BYTES: Final = 1 << 16


@frozen(kw_only=True)
class Order:
    """What is to be sent, where to and for how long; `first` is the number of the first job."""

    port: int
    short: bool = False
    hooks: bool = False
    connections: int = 64
    warm_up_seconds: float = 1.0
    seconds: float = 3.0
    first: int = 1
    most: int = 200_000


@frozen(kw_only=True)
class Answered:
    """How many answers came a second, and how long they took; any other status than 201 is counted apart."""

    per_second: float
    p50_ms: float
    p99_ms: float
    sent: int
    wrong: int
    first_wrong: str = ""


@define
class _Line:
    """One connection: what is asked and what came so far."""

    socket: socket.socket
    asked_at: float = 0.0
    body: bytes = b""


def measure(order: Order) -> Answered:
    """Send until the time is over."""
    before, behind = cut_at_id(played(SHORT if order.short else GUIDE, seconds=3600, hooks=order.hooks))
    length = len(before) + len(behind) + len(job_id(0))
    head = (
        f"POST /train HTTP/1.1\r\nHost: 127.0.0.1:{order.port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {length}\r\n\r\n"
    ).encode() + before
    poll = select.epoll()
    lines: dict[int, _Line] = {}
    number, wrong, first_wrong = order.first, 0, ""

    def ask(line: _Line) -> None:
        nonlocal number
        line.body = b""
        line.asked_at = time.perf_counter()
        line.socket.sendall(head + job_id(number).encode() + behind)
        number += 1

    for _ in range(order.connections):
        link = socket.create_connection(("127.0.0.1", order.port))
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        lines[link.fileno()] = _Line(link)
        poll.register(link.fileno(), select.EPOLLIN)
    begin = time.perf_counter() + order.warm_up_seconds
    end = begin + order.seconds
    times: list[float] = []
    for line in lines.values():
        ask(line)
    now = 0.0
    while now < end and number < order.first + order.most:
        for descriptor, _ in poll.poll(1.0):
            line = lines[descriptor]
            data = line.socket.recv(_READ_BYTES)
            if not data:
                raise ConnectionError("the server closed a connection")
            line.body = line.body + data if line.body else data
            if not _whole(line.body):
                continue
            now = time.perf_counter()
            if line.body[9:12] != b"201":
                wrong += 1
                first_wrong = first_wrong or line.body.decode(errors="replace")
            if now >= begin:
                times.append(now - line.asked_at)
            ask(line)
    took = time.perf_counter() - begin
    cuts = statistics.quantiles(times, n=100)
    return Answered(
        per_second=len(times) / took,
        p50_ms=cuts[49] * 1000,
        p99_ms=cuts[98] * 1000,
        sent=number - order.first,
        wrong=wrong,
        first_wrong=first_wrong,
    )


def _whole(answer: bytes) -> bool:
    """Whether head and body are complete."""
    end = answer.find(b"\r\n\r\n")
    if end < 0:
        return False
    place = answer.lower().find(b"content-length: ", 0, end)
    length = int(answer[place + 16 : answer.find(b"\r", place)])
    return len(answer) >= end + 4 + length


def main() -> None:
    """Carry out the order given as JSON."""
    sys.stdout.write(json.dumps(asdict(measure(Order(**json.loads(sys.argv[1]))))) + "\n")


if __name__ == "__main__":
    main()
