"""Secrets at rest: AES-GCM with one key a service (DESIGN, Secrets); the type itself is `schemas.values.Secret`."""

import base64
import binascii
import json
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import SettingError, StartError
from common.folder import sync_folder, write_whole

_NONCE_BYTES = 12


class SecretBox:
    """Encrypts and opens the secrets of one job; the job's uid is bound to them, so rows can't be swapped."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, uid: str, values: Mapping[str, str]) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, json.dumps(dict(values)).encode(), uid.encode())

    def open(self, uid: str, sealed: bytes) -> dict[str, str]:
        """Raises `StartError` when another key sealed them: the operator must bring the right one."""
        try:
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], uid.encode())
        except InvalidTag as e:
            raise StartError(
                f"the secrets of job {uid} were sealed with another key; restore secret.key or TRAINYARD_SECRET_KEY"
            ) from e
        return {str(k): str(v) for k, v in json.loads(plain).items()}


def load_key(folder: Path, given: str | None) -> bytes:
    """The service's key: `given` (base64 of 32 bytes), else `secret.key` in `folder`, made at first start (0600)."""
    path = folder / "secret.key"
    if given is not None:
        try:
            return _decoded(given, "TRAINYARD_SECRET_KEY")
        except StartError as e:
            raise SettingError(e.message) from e
    if path.exists():
        return _decoded(path.read_text().strip(), str(path))
    key = AESGCM.generate_key(bit_length=256)
    write_whole(path, base64.b64encode(key) + b"\n")
    sync_folder(folder)
    return key


def _decoded(text: str, source: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as e:
        raise StartError(f"{source} is not base64 of 32 bytes; make one: openssl rand -base64 32") from e
    if len(key) != 32:
        raise StartError(f"{source} must hold 32 bytes in base64, got {len(key)}; make one: openssl rand -base64 32")
    return key
