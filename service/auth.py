"""Who may come in: who has the fixed token; while there is none, this machine alone (train.md, 3, "Credential")."""

import hmac
import ipaddress
from urllib.parse import urlsplit

from aiohttp import web

from common.errors import NotOpenYet, Unauthorized
from common.settings import Settings

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_RUNS = "/train/{job_id}/attempts/{attempt}/events"
OF_RUNS = frozenset({_RUNS, f"{_RUNS}/kubeflow"})
"""Routes that only the token of a run opens, whoever its peer is; `service.operations.tell` asks for it."""
_PROXY_HEADERS = frozenset({"forwarded", "x-real-ip", "via"})
_LOOPBACK = ("127.0.0.1", "::1")
_OWN_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
HOW_TO_OPEN = (
    "until a token is set only this machine is served; to open it: "
    "`export TRAINYARD_TOKEN=$(openssl rand -hex 32)`, then `trainyard server`"
)


def admit(request: web.Request, settings: Settings) -> None:
    """Let a request in or raise `Unauthorized` or `NotOpenYet`. The two health paths are open to every peer."""
    resource = request.match_info.route.resource
    if request.path in OPEN_PATHS or (resource is not None and resource.canonical in OF_RUNS):
        return
    if settings.token is None:
        if (why := _why_not_local(request)) is not None:
            raise NotOpenYet(f"{why}; {HOW_TO_OPEN}")
        return
    given = _credential(request)
    if given is None:
        raise Unauthorized("send the token as `X-TRAINER-TOKEN: <token>` or `Authorization: Bearer <token>`")
    if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), settings.token.reveal().encode()):
        raise Unauthorized("the token is not the right one")


def _credential(request: web.Request) -> str | None:
    if (token := request.headers.get("X-TRAINER-TOKEN")) is not None:
        return token
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    return request.headers.get("X-API-Key")


def _why_not_local(request: web.Request) -> str | None:
    """Why a request does not surely come from a program of this machine; None when it does."""
    if not _is_loopback(request.transport.get_extra_info("peername") if request.transport else None):
        return "the caller is not on this machine"
    for name in request.headers:
        folded = name.lower()
        if folded in _PROXY_HEADERS or folded.startswith("x-forwarded-"):
            return f"the request came through a proxy ({name})"
    host = _hostname(request.headers.get("Host", ""))
    if host not in _OWN_HOSTS:
        return f"the request names the host {host!r}, not localhost"
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in ("same-origin", "none"):
        return f"the request is from another site's page ({site})"
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"http://{request.headers.get('Host', '')}":
        return f"the request is from a page of another origin ({origin})"
    return None


def _is_loopback(peer: object) -> bool:
    if not isinstance(peer, tuple) or not peer:
        return False
    if peer[0] in _LOOPBACK:
        return True
    try:
        address = ipaddress.ip_address(str(peer[0]).partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def _hostname(header: str) -> str | None:
    try:
        return urlsplit(f"//{header}").hostname
    except ValueError:
        return None
