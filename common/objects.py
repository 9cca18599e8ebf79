"""Buckets of object stores (`s3://`, `gs://`, `az://`) by obstore, which is imported at the first use of one."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

from attrs import frozen

from common.access import Auth
from common.errors import TrainyardError
from common.storage import scheme
from schemas.uri import mask_urls

SCHEMES = ("s3", "gs", "az")

_MIB = 1 << 20
_PART = 8 * _MIB
_MOST_PARTS = 9_000
_AT_ONCE = 4
_CHUNK = _MIB
_DELETED_AT_ONCE = 500
_ROLE_SECONDS = 3600
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_REGIONS = ("AWS_REGION", "AWS_DEFAULT_REGION")
_CREDENTIAL_WORDS = re.compile(
    r"\b(401|403)\b|AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|[Cc]redential"
)
_REGION_WORDS = re.compile(r"incorrectly configured region|PermanentRedirect|AuthorizationHeaderMalformed")
_MISSING_WORDS = re.compile(r"NoSuchBucket|NoSuchKey|ContainerNotFound|\b404\b")


class ObjectError(TrainyardError):
    """An object store did not do what was asked."""


class ObjectMissing(ObjectError):
    """There is no such object or bucket."""


class ObjectRefused(ObjectError):
    """The store refused the credentials, or found none."""


class ObjectChanged(ObjectError):
    """The object is not the one that was asked for."""


class ObjectUnreachable(ObjectError):
    """The store could not be reached, or failed; trying again may help."""


@frozen
class Stored:
    """An object as its store tells of it; `version` is its ETag."""

    key: str
    size: int
    version: str | None


class Bucket:
    """One bucket or container. Every method blocks; every failure is an `ObjectError` that names the object."""

    def __init__(self, uri: str, auth: Auth) -> None:
        """Raises `ObjectRefused` when a role can't be assumed; otherwise the store is not asked yet."""
        self.kind, self.name, _ = split(uri)
        self._auth = auth
        try:
            self._store = _open(self.kind, self.name, auth)
        except ObjectError:
            raise
        except Exception as e:
            raise ObjectRefused(f"{uri}: can't be opened with {auth.at}: {_said(e)}") from e

    def head(self, key: str) -> Stored:
        import obstore

        with self._told(key):
            return _stored(obstore.head(self._store, key))

    def list(self, prefix: str) -> list[Stored]:
        """Everything below a prefix, which ends at a slash."""
        import obstore

        with self._told(prefix):
            pages = obstore.list(self._store, prefix.rstrip("/") or None)
            return [_stored(meta) for page in pages for meta in page]

    def read(self, key: str, offset: int = 0, version: str | None = None) -> Iterator[bytes]:
        """The bytes from `offset` on. Raises `ObjectChanged` when the object is not of this version any more."""
        import obstore

        options: dict[str, Any] = {"if_match": version} if version else {}
        if offset:
            options["range"] = {"offset": offset}
        with self._told(key):
            found = obstore.get(self._store, key, options=options)  # type: ignore[arg-type]
            yield from found.stream(min_chunk_size=_CHUNK)

    def get(self, key: str) -> bytes:
        """A small object as a whole."""
        return b"".join(self.read(key))

    def put(self, key: str, content: Path | bytes) -> None:
        """Write an object; it is there as a whole or not at all."""
        import obstore

        size = len(content) if isinstance(content, bytes) else content.stat().st_size
        with self._told(key):
            obstore.put(
                self._store, key, content, chunk_size=max(_PART, -(-size // _MOST_PARTS)), max_concurrency=_AT_ONCE
            )

    def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that are gone already do not matter."""
        import obstore

        for start in range(0, len(keys), _DELETED_AT_ONCE):
            with self._told(keys[start]):
                try:
                    obstore.delete(self._store, list(keys[start : start + _DELETED_AT_ONCE]))
                except FileNotFoundError:
                    continue

    def move(self, key: str, to: str) -> None:
        """Rename an object."""
        import obstore

        with self._told(key):
            obstore.rename(self._store, key, to)

    @contextmanager
    def _told(self, key: str) -> Iterator[None]:
        try:
            yield
        except (ObjectError, GeneratorExit):
            raise
        except Exception as e:
            raise _meaning(e, f"{self.kind}://{self.name}/{key}", self._auth) from e


def split(uri: str) -> tuple[str, str, str]:
    """Scheme, bucket and key of a URI; a key keeps its slash at the end.

    >>> split("s3://bucket/a/b")
    ('s3', 'bucket', 'a/b')
    """
    bucket, _, key = uri.partition("://")[2].partition("/")
    return scheme(uri), bucket, key


def _open(kind: str, bucket: str, auth: Auth) -> Any:
    from obstore import store

    common: dict[str, Any] = {
        # Objects may be large: not the whole answer has a limit of time, but each read.
        "client_options": {"timeout": "7days", "connect_timeout": "10s", "read_timeout": "60s"},
        "retry_config": {"max_retries": 4, "retry_timeout": timedelta(seconds=60)},
    }
    if kind == "gs":
        if auth.token:
            common["credential_provider"] = lambda: {"token": auth.token, "expires_at": None}
        return store.GCSStore(bucket, **common)
    if kind == "az":
        return store.AzureStore(bucket, **_azure(auth), **common)
    endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
    common["client_options"]["allow_http"] = endpoint.startswith("http://")
    if auth.region:
        common["region"] = auth.region
    if (provider := credentials_of(auth)) is not None:
        common["credential_provider"] = provider
    return store.S3Store(bucket, **common)


def credentials_of(auth: Auth) -> Callable[[], Any] | None:
    """What tells S3 credentials, as often as they end; None: obstore's own chain of environment and machine."""
    if auth.role_arn:
        return _Role(auth)
    if auth.access_key_id:
        fixed = {"access_key_id": auth.access_key_id, "secret_access_key": auth.secret_access_key}
        return lambda: {**fixed, "token": auth.session_token, "expires_at": None}
    if "AWS_ACCESS_KEY_ID" in os.environ:
        return None
    if "AWS_PROFILE" in os.environ or (Path.home() / ".aws" / "credentials").exists():
        from obstore.auth.boto3 import Boto3CredentialProvider

        return Boto3CredentialProvider()
    return None


def _azure(auth: Auth) -> dict[str, Any]:
    given: dict[str, Any] = {"account_name": auth.username, "account_key": auth.password}
    if auth.token:
        given["sas_key" if "sig=" in auth.token else "token"] = auth.token
    return {name: value for name, value in given.items() if value}


class _Role:
    """Assumes a role; asked once at the beginning, so that a refusal is told as one, then whenever a session ends."""

    def __init__(self, auth: Auth) -> None:
        self._auth = auth
        self._first: dict[str, Any] | None = self._assume()

    def __call__(self) -> dict[str, Any]:
        found, self._first = self._first or self._assume(), None
        return found

    def _assume(self) -> dict[str, Any]:
        import boto3  # type: ignore[import-untyped]
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

        auth = self._auth
        try:
            client = boto3.client(
                "sts",
                region_name=next(filter(None, (auth.region, *map(os.environ.get, _REGIONS))), "us-east-1"),
                aws_access_key_id=auth.access_key_id,
                aws_secret_access_key=auth.secret_access_key,
                aws_session_token=auth.session_token,
            )
            answer = client.assume_role(
                RoleArn=auth.role_arn, RoleSessionName=auth.session, DurationSeconds=_ROLE_SECONDS
            )
        except (BotoCoreError, ClientError) as e:
            raise ObjectRefused(f"{auth.at}.role_arn: {auth.role_arn} can't be assumed: {e}") from e
        got = answer["Credentials"]
        return {
            "access_key_id": got["AccessKeyId"],
            "secret_access_key": got["SecretAccessKey"],
            "token": got["SessionToken"],
            "expires_at": got["Expiration"].astimezone(UTC),
        }


def _stored(meta: Any) -> Stored:
    return Stored(str(meta["path"]), int(meta["size"]), meta["e_tag"])


def _meaning(error: Exception, uri: str, auth: Auth) -> ObjectError:
    """What an exception of obstore says, in one line."""
    text, kind, said = str(error), type(error).__name__, _said(error)
    if isinstance(error, FileNotFoundError) or _MISSING_WORDS.search(text):
        return ObjectMissing(f"{uri}: there is no such object")
    if kind == "PreconditionError":
        return ObjectChanged(f"{uri}: it was changed meanwhile")
    if _REGION_WORDS.search(text):
        return ObjectRefused(f"{uri}: the bucket is in another region; {auth.at}.aws_region (or AWS_REGION) names it")
    if "169.254." in said:
        return ObjectRefused(
            f"{uri}: there are no credentials: {auth.at} and the environment have none, nor the machine"
        )
    if kind in ("PermissionDeniedError", "UnauthenticatedError") or _CREDENTIAL_WORDS.search(said):
        code = "401" if kind == "UnauthenticatedError" else "403"
        return ObjectRefused(f"{uri}: access denied ({code}); {auth.at} says who may read and write it: {said}")
    if kind in ("InvalidPathError", "UnknownConfigurationKeyError", "NotSupportedError"):
        return ObjectMissing(f"{uri}: {said}")
    return ObjectUnreachable(f"{uri}: {said}")


def _said(error: Exception) -> str:
    """The first line of a message, without what is secret in its addresses."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return mask_urls(lines[0][:300] if lines else type(error).__name__)
