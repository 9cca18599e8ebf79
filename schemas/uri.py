"""URIs and paths: which forms are taken, which hosts are refused, and how their secret parts are hidden."""

import re
import socket
import unicodedata
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import unquote, urlsplit

from schemas.values import MASK

STORAGE_SCHEMES: Final = ("s3", "gs", "az", "https", "hf", "file")
HTTP_SCHEMES: Final = ("http", "https")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(//)?")
_SECRET_PARTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,30}://)(?P<user>[^\s/?#]*@)?(?P<rest>[^\s?]*)(?P<query>\?\S+)?"
)
#: The URIs of nearly every document, recognised at one glance.
_PLAIN = re.compile(r"(s3|gs|az|hf|https?)://[A-Za-z0-9][A-Za-z0-9._-]*(?:/[!-~]*)?")
_PLAIN_HOST = re.compile(r"https?://([a-z0-9.-]{1,253})(?::[0-9]{1,5})?(?:[/?#]|$)")
_NO_ADDRESS = re.compile(r"[g-wyz]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_METADATA_NAMES = frozenset(
    {"metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"}
)
_METADATA_NETWORKS = tuple(
    ip_network(text)
    for text in (
        "169.254.0.0/16",  # AWS, Google, Azure, Oracle, and the credentials of containers
        "100.100.100.200/32",  # Alibaba
        "168.63.129.16/32",  # Azure's wire server
        "192.0.0.192/32",  # Oracle, older
        "fd00:ec2::/64",  # AWS
        "fd20:ce::254/128",  # Google
        "fd00:42::42/128",  # Scaleway
    )
)


def scheme_of(text: str) -> str | None:
    """The scheme of a URI, None for a path.

    >>> scheme_of("s3://bucket/x"), scheme_of("data/x.jsonl")
    ('s3', None)
    """
    found = _SCHEME.match(text)
    if found and (found[2] or found[1] in (*STORAGE_SCHEMES, *HTTP_SCHEMES)):
        return found[1]
    return None


def is_uri(text: str, schemes: tuple[str, ...]) -> bool:
    """Is it a whole URI of one of these schemes: a host or bucket where the scheme has one, no control characters?"""
    if plain := _PLAIN.fullmatch(text):
        return plain[1] in schemes
    if _CONTROL.search(text) or scheme_of(text) not in schemes or "://" not in text[:10]:
        return False
    try:
        parts = urlsplit(text)
        _port = parts.port if parts.scheme in HTTP_SCHEMES else None
    except ValueError:
        return False
    if parts.scheme == "file":
        return parts.netloc in ("", "localhost") and parts.path.startswith("/")
    if parts.scheme in HTTP_SCHEMES:
        return bool(parts.hostname) and not re.search(r"\s", text)
    return bool(parts.netloc) and not re.search(r"\s", parts.netloc)


def is_location(text: str) -> bool:
    """Is it a URI that storage knows, or a path?"""
    if _PLAIN.fullmatch(text):
        return not text.startswith("http:")
    if not text.strip() or _CONTROL.search(text):
        return False
    return scheme_of(text) is None or is_uri(text, STORAGE_SCHEMES)


def is_metadata_url(text: str) -> bool:
    """Does the URL lead to a cloud's metadata service, in whatever spelling of its address?"""
    if (plain := _PLAIN_HOST.match(text)) and _NO_ADDRESS.search(plain[1]):
        return plain[1].rstrip(".") in _METADATA_NAMES
    try:
        host = urlsplit(text).hostname
    except ValueError:
        return False
    return host is not None and is_metadata_host(host)


def is_metadata_host(host: str) -> bool:
    """Is it the name or address of a metadata service? Names are not looked up."""
    name = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").strip("[]").rstrip(".").lower()
    if name in _METADATA_NAMES:
        return True
    address = _address(name)
    return address is not None and any(address in network for network in _METADATA_NETWORKS)


def _address(name: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(name)
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(name))  # decimal, octal, hexadecimal and shortened spellings
        except (OSError, ValueError):
            return None
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and (found in ip_network("64:ff9b::/96") or int(found) >> 32 == 0):
            inner = IPv4Address(int(found) & 0xFFFFFFFF)
        return inner or found
    return found


def mask_urls(text: str) -> str:
    """The text with user-info and query of every URL in it hidden.

    >>> mask_urls("https://me:pw@host/file?sig=1")
    'https://••••@host/file?••••'
    """
    if "://" not in text or ("@" not in text and "?" not in text):
        return text
    return _SECRET_PARTS.sub(_masked, text)


def _masked(found: re.Match[str]) -> str:
    user = f"{MASK}@" if found["user"] else ""
    query = f"?{MASK}" if found["query"] else ""
    return f"{found['scheme']}{user}{found['rest']}{query}"


def conceal(text: str) -> str:
    """For messages about text that may be a broken URL: hides all that could be user-info or query in it."""
    head, at, tail = text.rpartition("@")
    scheme = head[: head.find("://") + 3] if "://" in head else ""
    shown = f"{scheme}{MASK}@{tail}" if at else tail
    before, mark, _ = shown.partition("?")
    return f"{before}?{MASK}" if mark else before


def without_secret_parts(text: str) -> str:
    """Masked text with the masks themselves taken out, so that two documents compare without them."""
    return text.replace(f"{MASK}@", "").replace(f"?{MASK}", "")
