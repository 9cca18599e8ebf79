"""One try of one delivery: the request, the answer, and the addresses that are never called."""

import asyncio
import base64
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from attrs import frozen
from yarl import URL

from schemas.uri import is_metadata_host, mask_urls
from service.logs import Masker
from service.store.base import Delivery
from service.webhooks.hooks import Hooks, Unusable

Lookup = Callable[..., list[tuple[Any, ...]]]
_LOOKUPS = 8
_KEEP_ALIVE_SECONDS = 5.0
_ERROR_CHARACTERS = 300


@frozen(kw_only=True)
class Answer:
    """What came of a try. `final`: no other try can help; `unreachable`: the host did not answer at all."""

    status: int | None = None
    error: str | None = None
    retry_after: str | None = None
    final: bool = False
    unreachable: bool = False


class GuardedResolver(AbstractResolver):
    """Looks names up in threads of its own and refuses those that lead to a metadata service."""

    def __init__(self, lookup: Lookup = socket.getaddrinfo) -> None:
        self._lookup = lookup
        self._pool = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="webhook-dns")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Raises `Unusable` when any of the addresses is a metadata service's."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, lambda: self._lookup(host, port, family, socket.SOCK_STREAM))
        for *_, address in found:
            if is_metadata_host(str(address[0]).partition("%")[0]):
                raise Unusable(f"{host} resolves to {address[0]}, a metadata address, which is never called")
        return [
            ResolveResult(
                hostname=host,
                host=f"{address[0]}%{address[3]}" if len(address) == 4 and address[3] else str(address[0]),
                port=int(address[1]),
                family=int(kind),
                proto=int(proto),
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, proto, _, address in found
        ]

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class Sender:
    """An HTTP client that posts deliveries; an async context."""

    def __init__(self, timeout_seconds: float, lookup: Lookup = socket.getaddrinfo) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._lookup = lookup
        self._client: aiohttp.ClientSession | None = None
        self._resolver: GuardedResolver | None = None

    async def __aenter__(self) -> "Sender":
        self._resolver = GuardedResolver(self._lookup)
        connector = aiohttp.TCPConnector(limit=0, resolver=self._resolver, keepalive_timeout=_KEEP_ALIVE_SECONDS)
        self._client = aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": user_agent()},
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._client is not None
        assert self._resolver is not None
        await self._client.close()
        await self._resolver.close()

    async def post(self, delivery: Delivery, hooks: Hooks, at: float) -> Answer:
        """Send `delivery` once, at wall time `at`; whatever goes wrong on the way is the answer."""
        assert self._client is not None
        masker = Masker(hooks.secrets)
        try:
            url = hooks.url(delivery.target)
            headers = request_headers(delivery, url, hooks.authorization(delivery.target), at)
            bare = url.with_user(None) if url.raw_user is not None or url.raw_password is not None else url
            async with self._client.post(bare, data=body(delivery), headers=headers, allow_redirects=False) as answer:
                return Answer(status=answer.status, retry_after=answer.headers.get("Retry-After"))
        except Unusable as e:
            return Answer(error=masker.text(str(e)), final=True)
        except aiohttp.InvalidURL:
            return Answer(error="the URL can't be used: it is not a valid http(s) URL", final=True)
        except UnicodeError:  # the host is no name that could be looked up
            return Answer(error="the URL can't be used: its host is not a valid name", final=True)
        except TimeoutError:
            return Answer(error=f"no answer within {self._timeout.total:g} s", unreachable=True)
        except (aiohttp.ClientError, OSError) as e:
            text = mask_urls(masker.text(f"{type(e).__name__}: {e}"))
            return Answer(error=text[:_ERROR_CHARACTERS], unreachable=True)


def request_headers(delivery: Delivery, url: URL, authorization: str | None, at: float) -> dict[str, str]:
    """The headers of a try; `webhook-id` is the same for every one of a delivery."""
    headers = {
        "Content-Type": "application/json",
        "webhook-id": delivery.webhook_id,
        "webhook-timestamp": str(int(at)),
    }
    if authorization is None and url.user is not None:
        authorization = "Basic " + base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
    return headers if authorization is None else headers | {"Authorization": authorization}


def body(delivery: Delivery) -> bytes:
    """The event as served, and `log`: one line of text for people."""
    event = json.loads(delivery.event)
    line = f"{event['time']} {event['job_id']} {event['type'].removeprefix('job.')}: {event['message']}"
    return json.dumps({**event, "log": " ".join(line.split())}, ensure_ascii=False, separators=(",", ":")).encode()


@cache
def user_agent() -> str:
    """`trainyard/<version>`, without a version where the package is not installed."""
    try:
        return f"trainyard/{version('trainyard')}"
    except PackageNotFoundError:
        return "trainyard"
