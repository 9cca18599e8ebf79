"""Where a job's events are sent, and with which credential."""

import json
from typing import Any

from attrs import field, frozen
from yarl import URL

from schemas.uri import HTTP_SCHEMES, is_metadata_url, is_uri
from schemas.values import MASK
from service.store.base import Store


class Unusable(Exception):
    """A delivery that no further try can help; the message says why and never shows a secret."""


@frozen(kw_only=True)
class Hooks:
    """The two targets of a job; `auth_header` belongs to the webhook's own host alone."""

    webhook_url: str | None = field(default=None, repr=False)
    stream_url: str | None = field(default=None, repr=False)
    auth_header: str | None = field(default=None, repr=False)

    def url(self, target: str) -> URL:
        """Where events for `target` go. Raises `Unusable`."""
        text = self.stream_url if target == "stream" else self.webhook_url
        name = "artifacts.status_stream_url" if target == "stream" else "callbacks.webhook_url"
        if not text:
            raise Unusable(f"the job's document has no {name}")
        if MASK in text:
            raise Unusable(f"the secret part of {name} is not kept any more; submit the job again with the whole URL")
        if is_metadata_url(text):
            raise Unusable(f"{name} leads to a metadata address, which is never called")
        return _url(text, name)

    def authorization(self, target: str) -> str | None:
        """The `Authorization` header for `target`; the stream's host gets it only when it is the webhook's."""
        header = self.auth_header
        if header is None or (target == "stream" and self.origin("stream") != self.origin("webhook")):
            return None
        if header == MASK:
            raise Unusable("callbacks.auth_header is not kept any more; submit the job again with it")
        if any(ord(c) < 32 or ord(c) == 127 for c in header):
            raise Unusable("callbacks.auth_header can't be sent: it holds a line break or another control character")
        return header

    def origin(self, target: str) -> str:
        """Scheme, host and port of a target; empty where there is no usable URL."""
        try:
            url = self.url(target)
        except Unusable:
            return ""
        return origin(url)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not show in a log line."""
        return tuple(v for v in (self.auth_header, self.webhook_url, self.stream_url) if v)


def origin(url: URL) -> str:
    """Scheme, host and port.

    >>> origin(URL("HTTPS://me:pw@Host.example/x?y=1"))
    'https://host.example:443'
    """
    return f"{url.scheme}://{(url.host or '').lower()}:{url.port}"


async def read_hooks(store: Store, uid: str) -> Hooks:
    """The job's hooks: from its secrets where they were masked out of the document, else from the document."""
    record = await store.job_by_uid(uid)
    secrets = await store.secrets(uid)
    document: dict[str, Any] = json.loads(record.document)

    def value(part: str, name: str) -> str | None:
        found = secrets.get(f"{part}.{name}") or (document.get(part) or {}).get(name)
        return str(found) if found else None

    return Hooks(
        webhook_url=value("callbacks", "webhook_url"),
        stream_url=value("artifacts", "status_stream_url"),
        auth_header=value("callbacks", "auth_header"),
    )


def _url(text: str, name: str) -> URL:
    """The URL as it was given: what is percent-encoded stays so, because queries may be signed."""
    try:
        if is_uri(text, HTTP_SCHEMES):
            return URL(text, encoded=text.isascii())
    except ValueError as e:
        raise Unusable(f"{name} is not a valid http(s) URL") from e
    raise Unusable(f"{name} is not an http(s) URL with a host")
