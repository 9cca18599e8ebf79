"""A hub of our own on loopback, as far as `huggingface_hub` asks one for models and data sets."""

import hashlib
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import define, field

from tests.https import served

_PATH = re.compile(
    r"/(?:api/)?(?:(?P<kind>models|datasets)/)?(?P<id>[\w.-]+/[\w.-]+)/"
    r"(?P<what>revision|tree|resolve)/(?P<revision>[^/]+)/?(?P<file>.*)"
)


@define
class Hub:
    """Repositories by `kind/owner/name`, each its files; `token` is asked for where a repository is `gated`."""

    url: str = ""
    repositories: dict[str, dict[str, bytes]] = field(factory=dict)
    gated: set[str] = field(factory=set)
    token: str = "hf_good"
    seconds_a_block: float = 0.0
    asked: list[tuple[str, str]] = field(factory=list)

    def add(self, name: str, folder: Path, kind: str = "models") -> None:
        files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        self.repositories[f"{kind}/{name}"] = files

    def got(self, file: str) -> int:
        """How often a file was downloaded."""
        return sum(method == "GET" and path.endswith(f"/{file}") and "/resolve/" in path for method, path in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def log_message(self, *_: object) -> None:
        return

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        found = _PATH.fullmatch(path)
        name = f"{found['kind'] or 'models'}/{found['id']}" if found else ""
        files = self.hub.repositories.get(name)
        if found is None or files is None:
            self._send(401 if found else 404, b"", **{"X-Error-Code": "RepoNotFound"})
        elif name in self.hub.gated and self.headers["Authorization"] != f"Bearer {self.hub.token}":
            self._send(403, b"", **{"X-Error-Code": "GatedRepo"})
        elif found["revision"] not in ("main", _sha(files)):
            self._send(404, b"", **{"X-Error-Code": "RevisionNotFound"})
        elif found["what"] == "resolve":
            self._file(files, found["file"])
        else:
            self._send(
                200,
                json.dumps(_told(found["what"], found["id"], files)).encode(),
                **{"Content-Type": "application/json"},
            )

    def _file(self, files: dict[str, bytes], name: str) -> None:
        if name not in files:
            self._send(404, b"", **{"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{hashlib.sha1(files[name]).hexdigest()}"', "X-Repo-Commit": _sha(files)}
        self._send(200, files[name], **headers)

    def _send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for at in range(0, len(body) if self.command == "GET" else 0, 1000):
            self.wfile.write(body[at : at + 1000])
            time.sleep(self.hub.seconds_a_block)


def _sha(files: dict[str, bytes]) -> str:
    return hashlib.sha1(repr(sorted(files)).encode()).hexdigest()


def _told(what: str, name: str, files: dict[str, bytes]) -> Any:
    if what == "tree":
        return [
            {"type": "file", "path": n, "size": len(c), "oid": hashlib.sha1(c).hexdigest()} for n, c in files.items()
        ]
    return {"id": name, "sha": _sha(files), "siblings": [{"rfilename": n} for n in files], "private": False}


@contextmanager
def hub_server() -> Iterator[Hub]:
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    with served(server):
        yield hub
