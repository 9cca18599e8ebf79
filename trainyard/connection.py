"""The way to the service: one HTTP session, its time-outs, and how an outage is waited out."""

import asyncio
import contextlib
import json
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import aiohttp
from yarl import URL

from trainyard.problem import APIError, CallError, UnreachableError, read_problem

DEFAULT_URL = "http://127.0.0.1:8001"
_LATER = frozenset({429, 502, 503, 504})
_MAX_WAIT = 30.0
_JSON = {"Accept": "application/json"}
_chance = random.Random()


class Outage:
    """How long to wait before the next try, and when to give up."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.first_wait = 1.0
        """The server's `retry:`, where it sent one."""
        self.tries = 0
        self._began = 0.0

    def next_wait(self) -> float | None:
        """Seconds to wait, with jitter; None once patience is at its end."""
        now = time.monotonic()
        if self.tries == 0:
            self._began = now
        if now - self._began >= self.patience:
            return None
        self.tries += 1
        return min(self.first_wait * 2.0 ** min(self.tries - 1, 16), _MAX_WAIT) * _chance.uniform(0.75, 1.25)


class Connection:
    """Calls to one service; once it has answered (`met`), an outage is waited out before it is an error."""

    def __init__(self, url: str, token: str | None, timeout: float, idle: float, notice: Callable[[str], None]) -> None:
        base = URL(url)
        if base.scheme not in ("http", "https") or not base.host:
            raise ValueError(f"url must be like {DEFAULT_URL}, got {url!r}")
        self.url = url.rstrip("/")
        self.met = False
        self.notice = notice
        self._token = token
        self._plain = aiohttp.ClientTimeout(total=timeout)
        self._stream = aiohttp.ClientTimeout(total=None, sock_connect=timeout, sock_read=idle)
        self._session: aiohttp.ClientSession | None = None

    def start(self) -> None:
        """Open the session; inside a running loop."""
        headers = {"User-Agent": "trainyard-client"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        self._session = aiohttp.ClientSession(headers=headers)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def wait(self, outage: Outage, error: CallError) -> None:
        """Sleep until the next try; raises `error` where another try can't help or patience is at its end."""
        passes = isinstance(error, UnreachableError) or (isinstance(error, APIError) and error.status in _LATER)
        wait = outage.next_wait() if passes and self.met else None
        if wait is None:
            raise error
        if outage.tries == 2:  # a stream that a proxy cut is back at once; nobody needs to hear of it
            self.notice(f"{error}; waiting for the service to come back")
        await asyncio.sleep(wait)

    def back(self, outage: Outage) -> None:
        """The service answered again."""
        if outage.tries > 1:
            self.notice("the service is back")
        outage.tries = 0

    @contextlib.asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        params: Sequence[tuple[str, str]] = (),
        document: Mapping[str, object] | bytes | None = None,
        *,
        headers: Mapping[str, str] = _JSON,
        stream: bool = False,
        seconds: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A good answer, its body still to be read; what fails until then is `APIError` or `UnreachableError`.

        `seconds` bounds a call that is known to take long, in place of the usual time-out.
        """
        if self._session is None:
            raise RuntimeError("the client is not open: use `async with Client(...) as client`")
        body = document if document is None or isinstance(document, bytes) else json.dumps(document).encode()
        if body is not None:
            headers = {**headers, "Content-Type": "application/json"}
        place = URL(self.url + path, encoded=True).extend_query(params)
        request = self._session.request(
            method,
            place,
            data=body,
            headers=headers,
            timeout=self._stream if stream else self._plain if seconds is None else aiohttp.ClientTimeout(seconds),
            allow_redirects=False,
        )
        try:
            async with request as response:
                if response.status >= 300:
                    raise await read_problem(response)
                self.met = True
                yield response
        except TimeoutError as e:
            raise UnreachableError(f"{self.url} gave no answer in time") from e
        except (aiohttp.ClientError, OSError) as e:
            raise UnreachableError(f"cannot reach {self.url}: {_why(e)}") from e


def _why(error: Exception) -> str:
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    if isinstance(cause, OSError) and cause.errno is not None and cause.errno > 0:
        return os.strerror(cause.errno).lower()
    return str(error) or type(error).__name__
