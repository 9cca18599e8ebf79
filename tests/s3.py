"""moto's server as a process: S3 and STS that answer as Amazon's do, with a count of what was asked."""

import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen

from tests.server import free_port

_START_SECONDS = 120


@frozen
class S3:
    """A server with one bucket; `environ` leads obstore and boto3 to it."""

    url: str
    log: Path
    bucket: str = "trainyard-tests"

    @property
    def environ(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "NO_PROXY": "127.0.0.1",
        }

    @property
    def client(self) -> Any:
        """A boto3 client: what tests put and look at goes another way than what is tested."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{key}"

    def put(self, key: str, content: bytes) -> str:
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)
        return self.uri(key)

    def get(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return body

    def objects(self, prefix: str = "") -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", ()))

    def only_known_callers(self, after: int | None) -> None:
        """From so many requests on (None: never) only keys that exist are let in, as their policies say."""
        body = b"inf" if after is None else str(after).encode()
        asked = urllib.request.Request(f"{self.url}/moto-api/reset-auth", body, {"Content-Type": "text/plain"})
        with urllib.request.urlopen(asked):
            pass

    def asked(self, method: str, key: str) -> int:
        """How often an object was asked for so far."""
        return len(re.findall(rf"\b{method} /{self.bucket}/{re.escape(key)}[ ?]", self.log.read_text()))


@contextmanager
def moto_server(folder: Path, **settings: str) -> Iterator[S3]:
    """A server of its own process; `settings` are variables of moto."""
    port = free_port()
    log = folder / "moto.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=file,
            stderr=file,
            env={**{k: v for k, v in os.environ.items() if not k.startswith("AWS_")}, **settings},
        )
    try:
        found = S3(f"http://127.0.0.1:{port}", log)
        _wait(found.url, process, log)
        found.client.create_bucket(Bucket=found.bucket)
        yield found
    finally:
        process.kill()
        process.wait()


class Gate:
    """Passes connections on to a server on this machine; while `shut`, the network is gone."""

    def __init__(self, port: int) -> None:
        self.shut = False
        self._to = port
        self._over = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._pass_on, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over = True
        self._thread.join()
        self._listener.close()

    def _pass_on(self) -> None:
        ends: dict[socket.socket, socket.socket] = {}
        while not self._over:
            ready, _, _ = select.select([self._listener, *ends], [], [], 0.02)
            for end in ready if not self.shut else [s for s in ready if s is self._listener]:
                if end is self._listener:
                    one, _ = end.accept()
                    if self.shut:
                        one.close()
                        continue
                    other = socket.create_connection(("127.0.0.1", self._to))
                    ends |= {one: other, other: one}
                elif end in ends:
                    self._move(end, ends)
            if self.shut:
                self._drop(ends, list(ends))
        self._drop(ends, list(ends))

    def _move(self, end: socket.socket, ends: dict[socket.socket, socket.socket]) -> None:
        try:
            data = end.recv(1 << 16)
            if data:
                ends[end].sendall(data)
                return
        except OSError:
            pass
        self._drop(ends, [end, ends[end]])

    def _drop(self, ends: dict[socket.socket, socket.socket], gone: list[socket.socket]) -> None:
        for end in gone:
            ends.pop(end, None)
            end.close()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/moto-api/"):
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"moto's server did not start:\n{log.read_text()}")
