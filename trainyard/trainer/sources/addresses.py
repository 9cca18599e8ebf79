"""Which addresses a download may go to: public ones and those of named hosts; never a metadata service."""

import socket
from ipaddress import ip_address

from schemas.uri import is_metadata_host
from trainyard.trainer.failures import SourceRefused
from trainyard.trainer.sources.offer import Lost


def refuse_metadata(host: str, at: str) -> None:
    """Raises `SourceRefused` where a host is a metadata service by its name, or an address of one."""
    if is_metadata_host(host):
        raise SourceRefused(f"{at}: {host} is a metadata service, which is never asked")


def permitted_address(host: str, port: int, named: bool, at: str) -> str:
    """An address of the host. Raises `SourceRefused` where any of them may not be asked, `Lost` where it has none."""
    refuse_metadata(host, at)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as e:
        raise Lost(f"{host} has no address: {e.strerror}") from e
    addresses = [str(entry[4][0]).partition("%")[0] for entry in found]
    for address in addresses:
        if is_metadata_host(address):
            raise SourceRefused(f"{at}: {host} is a metadata service ({address}), which is never asked")
        if not named and not ip_address(address).is_global:
            raise SourceRefused(
                f"{at}: {host} has the private address {address}; hosts of the own network are asked only where "
                "TRAINYARD_DOWNLOAD_HOSTS names them"
            )
    return addresses[0]
