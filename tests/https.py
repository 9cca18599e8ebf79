"""A web server of files over TLS with a certificate of its own, which counts what it was asked and can misbehave."""

import hashlib
import ipaddress
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from attrs import define, field


@define
class Web:
    """What is served, by path with its query or without; how; and the requests so far as `(method, path, Range)`."""

    files: dict[str, bytes] = field(factory=dict)
    headers: dict[str, dict[str, str]] = field(factory=dict)
    redirects: dict[str, str] = field(factory=dict)
    #: Asked with the sent headers; a status other than 200 is answered.
    status: Callable[[str, str, dict[str, str]], int] = lambda _method, _path, _headers: 200
    #: The body of a GET ends, and the connection with it, after so many bytes; taken one by one.
    cuts: list[int] = field(factory=list)
    etags: bool = True
    ranges: bool = True
    seconds_a_block: float = 0.0
    asked: list[tuple[str, str, str | None]] = field(factory=list)
    port: int = 0
    certificate: Path = Path()

    def uri(self, path: str) -> str:
        return f"https://localhost:{self.port}{path}"

    def gets(self, path: str) -> int:
        return sum(method == "GET" and found == path for method, found, _ in self.asked)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None:
        return

    def _answer(self, body: bool) -> None:
        web = self.web
        path = self.path if self.path in web.files else self.path.partition("?")[0]
        web.asked.append((self.command, self.path, self.headers["Range"]))
        status = web.status(self.command, self.path, dict(self.headers)) if path in web.files else 404
        if path in web.redirects:
            self._short(302, Location=web.redirects[path])
        elif status != 200:
            self._short(status)
        else:
            self._file(web.files[path], web.headers.get(path, {}), body)

    def _file(self, content: bytes, headers: dict[str, str], body: bool) -> None:
        etag = f'"{hashlib.md5(content).hexdigest()}-x"'
        wanted = self.headers["Range"] if self.web.ranges and self.headers["If-Range"] in (None, etag) else None
        first, _, last = (wanted or "bytes=0-").removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last or len(content)) + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}")
        for name, value in ({"ETag": etag} if self.web.etags else {}).items() | headers.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self._send(part)

    def _send(self, content: bytes) -> None:
        cut = self.web.cuts.pop(0) if self.web.cuts else None
        for at in range(0, len(content), 1 << 16):
            self.wfile.write(content[at : min(at + (1 << 16), cut if cut is not None else len(content))])
            if cut is not None and at + (1 << 16) >= cut:
                self.close_connection = True
                return
            time.sleep(self.web.seconds_a_block)

    def _short(self, status: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that leaves in the middle is what tests do."""


@contextmanager
def web_server(folder: Path) -> Iterator[Web]:
    web = Web(certificate=folder / "localhost.pem")
    write_certificate(web.certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(web.certificate)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": web}))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    web.port = server.server_address[1]
    with served(server):
        yield web


@contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[None]:
    """In a thread of its own, until the end of the `with`."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write_certificate(path: Path) -> None:
    """A key and its own certificate for localhost, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
