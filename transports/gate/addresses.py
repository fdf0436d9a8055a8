"""Which address a client comes from: what limits per address are counted by."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import Scope

from errors import StartupError

IPV6_PREFIX_BITS = 64
"""What one subscriber is given at least, so addresses within it are one client."""
HOPS_MAX = 20
"""Entries of X-Forwarded-For that are looked at, from the right."""


@lru_cache(maxsize=4096)
def _ipv6_network(host: str) -> str:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_PREFIX_BITS), strict=False))


def limited_by(host: str) -> str:
    """What an address counts as: an IPv4 address itself, an IPv6 address its /64."""
    return _ipv6_network(host) if ":" in host else host


class TrustedProxies:
    """The proxies whose `X-Forwarded-For` is believed.

    Args:
        networks: addresses (`10.0.0.7`) or networks (`10.0.0.0/8`).

    Raises:
        StartupError: one of them is neither.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        try:
            parsed = tuple(ipaddress.ip_network(each, strict=False) for each in networks)
        except ValueError as error:
            raise StartupError(f"RAQCOON_TRUSTED_PROXIES: {error}") from None

        @lru_cache(maxsize=1024)
        def trusts(host: str) -> bool:
            try:
                address = ipaddress.ip_address(host)
            except ValueError:
                return False
            if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
                address = address.ipv4_mapped
            return any(address in network for network in parsed)

        self.trusts = trusts

    def reveal(self, scope: Scope) -> None:
        """Puts the address of the client behind trusted proxies into the scope of a request or handshake.

        That is the last address before those proxies: what stands further left was said by the client itself.
        """
        client = scope.get("client")
        if client is None or not self.trusts(client[0]):
            return
        forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
        nearest = client[0]
        for hop in reversed(forwarded.decode("latin-1").split(",")[-HOPS_MAX:]):
            address = _address(hop.strip())
            if address is None:
                break
            nearest = address
            if not self.trusts(address):
                break
        scope["client"] = (nearest, 0)


def _address(hop: str) -> str | None:
    """The address of one entry, which may carry a port: `192.0.2.1:80`, `[2001:db8::1]:80`."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        return str(ipaddress.ip_address(hop))
    except ValueError:
        return None
