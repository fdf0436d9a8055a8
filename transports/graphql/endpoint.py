"""graphql-transport-ws as an ASGI application: the handshake, then one `SocketConnection` for as long as it lives."""

import logging

from cachetools import TTLCache
from starlette.types import Receive, Scope, Send

from resolvers.chat import Chat
from schema.operations import Operations
from schema.turns import Turns
from transports.gate.connections import Connections
from transports.gate.limits import Limits
from transports.graphql.connection import MakeSink, SocketConnection, SocketSetup
from transports.graphql.frames import SUBPROTOCOL, CloseCode
from transports.sight.logs import request_id_headers
from transports.wire.sinks import make_sink as default_make_sink
from transports.wire.sockets import Allow, Authenticate, anyone, client_address, everywhere, transmit

logger = logging.getLogger(__name__)

TOLD_EVERY_SECONDS = 60.0
TOLD_ADDRESSES_MAX = 1_000
OFFERED_CHARACTERS_MAX = 100
_WRONG_SUBPROTOCOL = f"Subprotocol not acceptable: ask for {SUBPROTOCOL} (graphql-ws is an older one, not served)"
"""A close reason has at most 123 bytes."""


class GraphQLWebSocket:
    """The endpoint; one instance serves every socket.

    Args:
        operations: what runs a client's operations.
        chat: what they run on.
        connections: where open sockets are registered; may be shared with other endpoints.
        authenticate: who the client is; Unauthenticated and Forbidden close the socket with 4403 instead of an ack.
        allow: whether a handshake may go on; False answers it with 403.
        make_sink: the subscriber's side of a socket.
        limits: past `init_timeout_seconds` without an ack a socket is closed with 4408, past `subscriptions` a further
            one ends with an error frame, past `operations` at once the socket is not read.
        turns: in which JSON that takes long is read.
    """

    def __init__(
        self,
        operations: Operations,
        chat: Chat,
        *,
        connections: Connections | None = None,
        authenticate: Authenticate = anyone,
        allow: Allow = everywhere,
        make_sink: MakeSink = default_make_sink,
        limits: Limits = Limits(),  # noqa: B008 - it is frozen
        turns: Turns | None = None,
    ) -> None:
        turns = Turns() if turns is None else turns
        self.setup = SocketSetup(operations, chat, authenticate, make_sink, limits, turns)
        self.connections = Connections() if connections is None else connections
        self.allow = allow
        self._told_of: TTLCache[str | None, bool] = TTLCache(TOLD_ADDRESSES_MAX, TOLD_EVERY_SECONDS)

    def _tell_of_subprotocols(self, scope: Scope, address: str | None) -> None:
        """Logs what a client offered, for each address once in a while: clients often do not show the close reason."""
        if address in self._told_of:
            return
        self._told_of[address] = True
        offered = ", ".join(scope.get("subprotocols", ()))
        logger.warning(
            "closed a WebSocket with 4406: this server speaks %s, and its client offered %s",
            SUBPROTOCOL,
            repr(offered[:OFFERED_CHARACTERS_MAX]) if offered else "no subprotocol",
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] != "websocket.connect":
            return
        if await self.connections.turn_away(scope, send, allow=self.allow, accepting=self.setup.chat.accepting):
            return
        address = client_address(scope)
        if SUBPROTOCOL not in scope.get("subprotocols", ()):
            self._tell_of_subprotocols(scope, address)
            code = int(CloseCode.SUBPROTOCOL_NOT_ACCEPTABLE)
            await transmit(send, {"type": "websocket.accept"})
            await transmit(send, {"type": "websocket.close", "code": code, "reason": _WRONG_SUBPROTOCOL})
            return
        connection = SocketConnection(self.setup, scope, send)
        self.connections.add(connection, address)
        try:
            headers = request_id_headers()
            await transmit(send, {"type": "websocket.accept", "subprotocol": SUBPROTOCOL, "headers": headers})
            await connection.run(receive)
        finally:
            self.connections.remove(connection)
