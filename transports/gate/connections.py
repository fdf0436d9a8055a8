"""The open WebSockets of this process: counted, so that limits hold, and listed, so that each can be reached."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from starlette.types import Scope, Send

from errors import Forbidden, RaqcoonError
from messages import Revocation, Viewer
from transports.gate.elsewhere import NOWHERE, Elsewhere
from transports.sight.logs import ConnectionFigures
from transports.wire.sockets import Allow, client_address, refuse

KINDS = ("graphql-ws", "plain", "stream")
_RFC_6455 = {1000, 1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 1012, 1013}
_GRAPHQL_WS = {4400, 4401, 4403, 4406, 4408, 4409, 4429, 4500}
_CODES = _RFC_6455 | _GRAPHQL_WS
"""Close codes that are counted one by one. A client may make up others, which are counted together."""


class Connection(Protocol):
    """An open socket, as the registry sees it."""

    figures: ConnectionFigures

    @property
    def viewer(self) -> Viewer | None:
        """Who it is, None until that is known."""

    def expel(self, error: RaqcoonError) -> None:
        """Ends the connection as when its token expires, and tells `error`. A socket is closed with 4403, a stream ends
        at once.

        Nothing of any subscription is written from this moment on. Never raises, idempotent.
        """

    def close(self, code: int, reason: str) -> None:
        """Begins to end the socket with a close frame. Returns at once, never raises, idempotent."""


class Connections:
    """The registry that all socket endpoints share.

    Args:
        max_connections: sockets open at once, None for no limit.
        max_per_address: sockets open at once from one client address, None for no limit.
        elsewhere: the sockets of the server's other processes, which count too.
    """

    def __init__(
        self,
        *,
        max_connections: int | None = None,
        max_per_address: int | None = None,
        elsewhere: Elsewhere = NOWHERE,
    ) -> None:
        self._elsewhere = elsewhere
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._open: dict[Connection, str | None] = {}
        self._by_address: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        """Connections that ended since the start, by close code; `none` for streams, `other` for clients' own codes."""

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection]:
        """The open sockets at this moment; they may be closed while iterating."""
        return iter(tuple(self._open))

    def by_kind(self) -> dict[str, int]:
        """How many are open of each of `KINDS`."""
        counts = dict.fromkeys(KINDS, 0)
        for connection in self._open:
            counts[connection.figures.kind] += 1
        return counts

    def at_address(self, address: str) -> int:
        """How many sockets are open from one client address."""
        return self._by_address[address]

    def refusal(self, address: str | None) -> tuple[int, str] | None:
        """The HTTP status and text with which a further socket is refused now; None when it may open.

        503 past the limit of all sockets, 429 past the limit of its address.
        """
        if self._max_connections is not None and len(self._open) + self._elsewhere.inside() >= self._max_connections:
            return 503, f"This server has its maximum of {self._max_connections} connections."
        if (
            address is not None
            and self._max_per_address is not None
            and self._by_address[address] + self._elsewhere.at(address) >= self._max_per_address
        ):
            return 429, f"This address has its maximum of {self._max_per_address} connections."
        return None

    async def turn_away(self, scope: Scope, send: Send, *, allow: Allow, accepting: bool) -> bool:
        """Answers a WebSocket handshake with an HTTP status if no socket may open now. False: it may open.

        Args:
            allow: whether the handshake's origin may connect.
            accepting: False while the server drains.
        """
        if not allow(scope):
            refusal: tuple[int, str] | None = (403, "This origin may not connect.")
        elif not accepting:
            refusal = (503, "This server is shutting down.")
        else:
            refusal = self.refusal(client_address(scope))
        if refusal is None:
            return False
        await refuse(scope, send, *refusal)
        return True

    def revoked(self, revocations: Iterable[Revocation]) -> None:
        """Ends the connections of those whose access to every channel was revoked."""
        authors = {each.author for each in revocations if each.channel_id is None}
        if authors:
            self.expel(lambda viewer: viewer.author in authors, Forbidden("Your access was revoked."))

    def expel(self, whom: Callable[[Viewer], bool], error: RaqcoonError) -> None:
        """Ends the connections of these viewers."""
        for connection in self:
            viewer = connection.viewer
            if viewer is not None and whom(viewer):
                connection.expel(error)

    def add(self, connection: Connection, address: str | None) -> None:
        """Registers an open socket. Whoever adds it removes it, whatever happens in between."""
        self._open[connection] = address
        self._elsewhere.entered(address)
        if address is not None:
            self._by_address[address] += 1

    def remove(self, connection: Connection) -> None:
        """Forgets a socket and logs what it did. Idempotent."""
        if connection not in self._open:
            return
        address = self._open.pop(connection)
        self._elsewhere.left(address)
        code = connection.figures.close_code
        self.ended["none" if code is None else str(code) if code in _CODES else "other"] += 1
        connection.figures.log()
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
