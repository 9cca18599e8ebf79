"""What runs may download, as the operator set it."""

import fnmatch
from collections.abc import Mapping
from typing import Any

from attrs import frozen


@frozen
class Limits:
    """How much, and over https from whom."""

    most_bytes: int = 1 << 40
    #: Names or patterns (`*.example.org`): no other host is asked, and these may have private addresses.
    hosts: tuple[str, ...] = ()
    #: Whether a source that can't be reached is waited for, as a job does and a validation does not.
    patient: bool = True

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> "Limits":
        """From the options in `spec.json`."""
        hosts = str(options.get("download_hosts") or "").replace(",", " ").split()
        return cls(int(options.get("max_download_bytes") or cls().most_bytes), tuple(hosts))

    def names(self, host: str) -> bool:
        """Whether the operator named this host."""
        return any(fnmatch.fnmatch(host.lower(), pattern.lower()) for pattern in self.hosts)
