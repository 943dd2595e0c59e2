"""The network addresses that a web photo may lead to: public ones, and those that the operator names."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
# The last 32 bits of these are an IPv4 address: mapped, compatible, and those of translators (NAT64, SIIT).
_CARRY_IPV4 = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "::/96", "64:ff9b::/96", "::ffff:0:0:0/96")))
# A public address by its number, and the metadata service of a cloud.
_METADATA = frozenset(map(ipaddress.ip_address, ("168.63.129.16",)))
_PORTS = {"http": 80, "https": 443}


class PrivateAddress(OSError):
    """The error where a connection would lead to an address that is not allowed."""

    def __init__(self) -> None:
        super().__init__("a private address")


class Addresses:
    """The addresses that may be connected to.

    roots: an address, or localhost, that a root has as its host is allowed at that root's port.
    networks: private networks that are allowed as a whole.
    """

    def __init__(self, roots: Iterable[str], networks: Iterable[str]) -> None:
        self._networks = tuple(ipaddress.ip_network(network) for network in networks)
        self._named: set[tuple[Address | str, int]] = set()
        for root in roots:
            parts = urlsplit(root)
            if parts.scheme in _PORTS and parts.hostname:
                port = parts.port or _PORTS[parts.scheme]
                self._named.add((written_address(parts.hostname) or parts.hostname, port))

    def allow(self, text: str, port: int) -> bool:
        """Whether a connection may lead to an address, as the system writes it."""
        address = _inner(ipaddress.ip_address(text.partition("%")[0]))
        if is_public(address) or any(address in network for network in self._networks):
            return True
        return (address, port) in self._named or (address.is_loopback and ("localhost", port) in self._named)

    def socket_for(self, target: tuple[int, int, int, str, tuple[str, int]]) -> socket.socket:
        """Make the socket of a connection. Raises PrivateAddress."""
        family, kind, protocol, _, place = target
        if not self.allow(place[0], place[1]):
            raise PrivateAddress
        return socket.socket(family, kind, protocol)


def is_public(address: Address) -> bool:
    """Whether an address is of the open internet: of no private network, machine or cloud's metadata."""
    address = _inner(address)
    return address.is_global and not address.is_multicast and address not in _METADATA


def written_address(host: str) -> Address | None:
    """Read a host's name as an address, in any spelling that the system takes: `127.1`, `0x7f000001`."""
    try:
        return _inner(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def _inner(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback or address.is_unspecified:
        return address
    if any(address in network for network in _CARRY_IPV4):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour or address
