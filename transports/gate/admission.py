"""How many TCP connections are open, in all and from one address, whatever they are used for."""

from collections import Counter

from transports.gate.addresses import TrustedProxies
from transports.gate.elsewhere import NOWHERE, Elsewhere
from transports.wire.addresses import limited_by

WAITING_TO_HEAR_MAX = 1000
"""Connections past a limit that are kept open until their clients have been told so. A further one is cut at once."""


class Admission:
    """Counts connections. Each one that `enter` lets in has to `leave` once.

    Args:
        max_connections: connections in all, None for no limit.
        max_per_address: connections from one address, None for no limit. Trusted proxies have no such limit: the
            clients behind them are counted by `Connections`.
        proxies: the trusted ones.
        elsewhere: the connections of the server's other processes, which count too.
    """

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        max_per_address: int | None = None,
        proxies: TrustedProxies | None = None,
        elsewhere: Elsewhere = NOWHERE,
    ) -> None:
        self._elsewhere = elsewhere
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._proxies = proxies
        self._by_address: Counter[str] = Counter()
        self.inside = 0
        self.waiting_to_hear = 0
        self.refused = 0
        """Connections that were turned away since the start."""

    def enter(self, host: str | None) -> tuple[int, str] | None:
        """Lets a connection in and counts it, or says with which HTTP status and text it is to be turned away."""
        if self._max_connections is not None and self.inside + self._elsewhere.inside() >= self._max_connections:
            self.refused += 1
            return 503, f"This server has its maximum of {self._max_connections} connections."
        address = None
        if host is not None and self._max_per_address is not None:
            address = limited_by(host)
            there = self._by_address[address] + self._elsewhere.at(address)
            if there >= self._max_per_address and not self.trusts(host):
                self.refused += 1
                return 429, f"This address has its maximum of {self._max_per_address} connections."
            self._by_address[address] += 1
        self.inside += 1
        self._elsewhere.entered(address)
        return None

    def leave(self, host: str | None) -> None:
        """Stops counting a connection that `enter` has let in."""
        self.inside -= 1
        address = None
        if host is not None and self._max_per_address is not None:
            address = limited_by(host)
            self._by_address[address] -= 1
            if self._by_address[address] <= 0:
                del self._by_address[address]
        self._elsewhere.left(address)

    def trusts(self, host: str | None) -> bool:
        """Whether `host` is a trusted proxy, whose connections are those of many clients."""
        return host is not None and self._proxies is not None and self._proxies.trusts(host)
