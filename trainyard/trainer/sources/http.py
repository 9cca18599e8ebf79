"""`https://`: one file, from public hosts or those that the operator named, over at most a few redirects.

`http://` is followed only where the document itself may name one (`base_model.weights_url`), and gets no credentials.
"""

import base64
import http.client
import socket
import ssl
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from attrs import frozen

from common.access import Auth
from trainyard.trainer.failures import RunEnded, SourceRefused
from trainyard.trainer.sources.addresses import permitted_address, refuse_metadata
from trainyard.trainer.sources.limits import Limits
from trainyard.trainer.sources.offer import Changed, Item, Lost, Offer, is_plain

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 5
_SECONDS = 30.0
_SECONDS_IN_HASTE = 5.0
_BLOCK = 1 << 18
_MISSING = frozenset({404, 410})
_AGAIN = frozenset({408, 425, 429})


def offered(uri: str, auth: Auth, limits: Limits, at: str, missing: type[RunEnded]) -> Offer:
    """The file behind a URL. Raises `missing`, `SourceRefused`, or `Lost`."""
    source = _Source(uri, auth, limits, at, missing)
    size, version, digest = source.look()
    name = PurePosixPath(unquote(urlsplit(uri).path)).name
    item = Item(
        name=name if is_plain(name) else "file", size=size, version=version, read=source.reader(version), digest=digest
    )
    tagged = version is not None and version.startswith('"')  # a tag of the content; a time may be that of another file
    return Offer(uri=source.shown, items=(item,), query="" if tagged else urlsplit(uri).query)


@frozen
class _Source:
    uri: str
    auth: Auth
    limits: Limits
    at: str
    missing: type[RunEnded]

    @property
    def shown(self) -> str:
        """The URL without query and credentials."""
        parts = urlsplit(self.uri)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"

    def look(self) -> tuple[int | None, str | None, tuple[str, str] | None]:
        """Size, version and digest; by HEAD, or by asking for one byte where HEAD is not answered."""
        with self._answer("HEAD", {}) as answer:
            if answer.status < 300:
                return self._within(_number(answer.headers.get("Content-Length"))), _version(answer), _digest(answer)
        with self._answer("GET", {"Range": "bytes=0-0"}) as answer:
            self._check(answer.status)
            if answer.status == 206:
                whole = (answer.headers.get("Content-Range") or "").rpartition("/")[2]
                return self._within(_number(whole)), _version(answer), None
            return self._within(_number(answer.headers.get("Content-Length"))), _version(answer), _digest(answer)

    def reader(self, version: str | None) -> Callable[[int], Iterator[bytes]]:
        def read(offset: int) -> Iterator[bytes]:
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            if offset and version is not None and not version.startswith("W/"):
                headers["If-Range"] = version
            with self._answer("GET", headers) as answer:
                self._check(answer.status)
                if version is not None and (found := _version(answer)) is not None and found != version:
                    raise Changed(f"{self.shown} was {version}, now it is {found}")
                begins = _first_byte(answer) if answer.status == 206 else 0
                if begins > offset:
                    raise Lost(f"{self.shown} answered from byte {begins}, asked from {offset}")
                yield from self._counted(answer, begins, offset)

        return read

    def _counted(self, answer: http.client.HTTPResponse, position: int, offset: int) -> Iterator[bytes]:
        """The body from `offset` on; what a server sends again from its start is passed over."""
        while block := answer.read(_BLOCK):
            self._within(position + len(block))
            fresh = block[max(0, offset - position) :]
            position += len(block)
            if fresh:
                yield fresh

    @contextmanager
    def _answer(self, method: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        """The answer at the end of all redirects, each of them looked at as the first URL was."""
        url, first = self.uri, urlsplit(self.uri)
        for _ in range(_MOST_REDIRECTS + 1):
            parts = urlsplit(url)
            known = parts.scheme == "https" and _origin(parts) == _origin(first)
            sent = headers | (_authorization(self.auth, first) if known else {})
            connection = self._connection(parts)
            try:
                try:
                    connection.request(method, _target(parts), headers={**_ALWAYS, **sent})
                    answer = connection.getresponse()
                    if answer.status not in _REDIRECTS:
                        yield answer
                        return
                except ssl.SSLCertVerificationError as e:
                    raise SourceRefused(f"{self.at}: {self.shown}: its certificate is not good: {e.reason}") from e
                except (OSError, http.client.HTTPException) as e:
                    raise Lost(f"{self.shown}: {type(e).__name__}: {e}") from e
                url = urljoin(url, answer.headers.get("Location") or "")
            finally:
                connection.close()
        raise SourceRefused(f"{self.at}: {self.shown}: more than {_MOST_REDIRECTS} redirects")

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        plain = parts.scheme == "http" and self.uri.startswith("http://")
        if not host or (parts.scheme != "https" and not plain):
            raise SourceRefused(f"{self.at}: {self.shown} leads to {parts.scheme}://{host}; only https:// is followed")
        named = self.limits.names(host)
        if self.limits.hosts and not named:
            raise SourceRefused(
                f"{self.at}: {host} is none of the hosts that may be asked (TRAINYARD_DOWNLOAD_HOSTS: "
                f"{', '.join(self.limits.hosts)})"
            )
        proxy = None if plain else urllib.request.getproxies().get("https")
        if proxy and not urllib.request.proxy_bypass(host):
            refuse_metadata(host, self.at)
            return _through(proxy, host, port)
        found = (_PinnedPlain if plain else _Pinned)(host, port, permitted_address(host, port, named, self.at))
        found.timeout = _SECONDS if self.limits.patient else _SECONDS_IN_HASTE
        return found

    def _check(self, status: int) -> None:
        if status in (200, 206):
            return
        if status in _MISSING:
            raise self.missing(f"{self.at}: {self.shown}: there is no such file ({status})")
        if status in (401, 403, 407):
            raise SourceRefused(
                f"{self.at}: {self.shown}: access denied ({status}); {self.auth.at} may hold a token, or username and "
                "password"
            )
        if status in _AGAIN or status >= 500:
            raise Lost(f"{self.shown} answered {status}")
        if status == 416:
            raise Changed(f"{self.shown} is shorter than it was")
        raise SourceRefused(f"{self.at}: {self.shown} answered {status}")

    def _within(self, size: int | None) -> int | None:
        if size is not None and size > self.limits.most_bytes:
            raise SourceRefused(
                f"{self.at}: {self.shown} has {size:,} bytes or more; at most {self.limits.most_bytes:,} are "
                "downloaded (TRAINYARD_MAX_DOWNLOAD_BYTES)"
            )
        return size


class _Pinned(http.client.HTTPSConnection):
    """Connects to the address that was looked at, whatever the name means a moment later."""

    def __init__(self, host: str, port: int, address: str) -> None:
        self._tls = ssl.create_default_context()
        super().__init__(host, port, timeout=_SECONDS, context=self._tls)
        self._address = address

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self.host)


class _PinnedPlain(http.client.HTTPConnection):
    """The same without encryption."""

    def __init__(self, host: str, port: int, address: str) -> None:
        super().__init__(host, port, timeout=_SECONDS)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)


_ALWAYS: Mapping[str, str] = {"User-Agent": "trainyard", "Accept": "*/*", "Accept-Encoding": "identity"}


def _through(proxy: str, host: str, port: int) -> http.client.HTTPSConnection:
    """By a proxy, which looks the name up itself."""
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or 80, timeout=_SECONDS)
    headers = {}
    if parts.username:
        headers["Proxy-Authorization"] = _basic(unquote(parts.username), unquote(parts.password or ""))
    connection.set_tunnel(host, port, headers=headers)
    return connection


def _authorization(auth: Auth, uri: SplitResult) -> dict[str, str]:
    if auth.token:
        return {"Authorization": f"Bearer {auth.token}"}
    if auth.username:
        return {"Authorization": _basic(auth.username, auth.password or "")}
    if uri.username:
        return {"Authorization": _basic(unquote(uri.username), unquote(uri.password or ""))}
    return {}


def _basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or 443


def _target(parts: SplitResult) -> str:
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None


def _version(answer: http.client.HTTPResponse) -> str | None:
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified")


def _digest(answer: http.client.HTTPResponse) -> tuple[str, str] | None:
    """A digest of the whole file, as `Repr-Digest`, `Digest` or `Content-MD5` tell it."""
    told = [("sha256", answer.headers.get(name) or "") for name in ("Repr-Digest", "Digest")]
    for algorithm, text in told:
        for part in text.split(","):
            name, _, value = part.strip().partition("=")
            if name.lower() == "sha-256":
                return algorithm, base64.b64decode(value.strip(":")).hex()
    if answer.status == 200 and (md5 := answer.headers.get("Content-MD5")):
        return "md5", base64.b64decode(md5).hex()
    return None


def _first_byte(answer: http.client.HTTPResponse) -> int:
    first = (answer.headers.get("Content-Range") or "").removeprefix("bytes ").partition("-")[0]
    if not first.isdecimal():
        raise Lost(f"an answer without a usable Content-Range: {answer.headers.get('Content-Range')!r}")
    return int(first)
