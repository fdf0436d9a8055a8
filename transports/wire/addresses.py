"""By what the limits per address tell clients apart."""

import ipaddress
from functools import lru_cache

IPV6_PREFIX_BITS = 64
"""A customer of an internet provider gets at least this prefix, so all addresses within it count as one client."""


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
    """What an address counts as: an IPv4 address as itself, an IPv6 address as its /64 network."""
    return _ipv6_network(host) if ":" in host else host
