"""Which address a client comes from, behind proxies that are believed."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import Scope

from errors import StartupError

HOPS_MAX = 20
"""Entries of X-Forwarded-For that are looked at, from the right."""


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
