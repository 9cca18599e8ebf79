"""Who asks for a source: the credentials of a part of the document."""

import re
from collections.abc import Mapping
from typing import Any

from attrs import field, frozen

from schemas.values import MASK

_NOT_IN_SESSIONS = re.compile(r"[^\w+=,.@-]", re.ASCII)


@frozen(kw_only=True)
class Auth:
    """What `datasets[].auth` or `artifacts.auth` says; where it says nothing, the environment's own chain is used."""

    #: The path of these fields in the document.
    at: str
    #: The session name with which a role is assumed.
    session: str = "trainyard"
    role_arn: str | None = None
    token: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    region: str | None = None

    @classmethod
    def of(cls, part: Mapping[str, Any] | None, secrets: Mapping[str, str], at: str, session: str = "") -> "Auth":
        """`part` is the object at the path `at` without its secrets, which are in `secrets` by their own paths."""
        plain = {name: value for name, value in (part or {}).items() if value != MASK}

        def value(name: str) -> str | None:
            return secrets.get(f"{at}.{name}") or plain.get(name) or None

        return cls(
            at=at,
            session=_NOT_IN_SESSIONS.sub("-", session)[:64] or "trainyard",
            role_arn=value("role_arn"),
            token=value("token"),
            username=value("username"),
            password=value("password"),
            access_key_id=value("aws_access_key_id"),
            secret_access_key=value("aws_secret_access_key"),
            session_token=value("aws_session_token"),
            region=value("aws_region"),
        )
