"""What the socket endpoints share: who may connect, how a client is refused, when its token ends, and a safe send."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.types import Message, Scope, Send

from errors import Unauthenticated
from messages import ANYONE, Viewer
from resolvers.chat import Chat
from resolvers.rights import require_admission
from transports.wire.addresses import limited_by

logger = logging.getLogger(__name__)

Authenticate = Callable[[dict[str, Any] | None, Scope], Awaitable[Viewer]]
"""Tells who a socket's client is, from the payload of its `connection_init` (None on a plain WebSocket) and its
handshake.

Raises `errors.Unauthenticated` or `errors.Forbidden` to turn the client away."""

Allow = Callable[[Scope], bool]
"""Whether a handshake may go on: the check of its Origin. False is answered with 403."""

PLAIN_PREFIX = "/api/ws/"
"""The paths of the plain WebSocket begin with this; a channel id follows."""
_TIMER_SECONDS_MAX = 86_400.0
"""The longest single timer: event loops refuse very distant ones. For a later end, another timer follows."""


async def anyone(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
    """The `Authenticate` of a server without authentication."""
    return ANYONE


def admitting(chat: Chat, authenticate: Authenticate) -> Authenticate:
    """`authenticate`, which also turns away those whose access to every channel was revoked."""

    async def admit(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        viewer = await authenticate(connection_params, scope)
        require_admission(chat, viewer)
        return viewer

    return admit


def everywhere(scope: Scope) -> bool:
    """The `Allow` of a server that asks for no Origin."""
    return True


def client_address(scope: Scope) -> str | None:
    """What the limits per address count the client as (`limited_by`); None if the server does not know its address."""
    client = scope.get("client")
    return limited_by(client[0]) if client else None


async def refuse(scope: Scope, send: Send, status: int, text: str) -> None:
    """Answers a WebSocket handshake with an HTTP status instead of accepting it.

    Without the extension `websocket.http.response` every status becomes 403.
    """
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": 1008})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (429, 503):
        headers.append((b"retry-after", b"1"))
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": text.encode()})


def forget_handshake(scope: Scope) -> None:
    """Frees what only the handshake needed. A browser's headers take 4 to 6 KiB, and the scope lives as long as the
    socket."""
    scope["headers"] = []
    scope["query_string"] = b""
    scope["subprotocols"] = []


async def transmit(send: Send, event: Message) -> None:
    """Sends an event to a socket that may be gone. If it is gone nothing is raised here, since `receive` will say so.

    Servers report a lost client by OSError (ASGI 2.4), event loops by RuntimeError on a lost transport.
    """
    try:
        await send(event)
    except (OSError, RuntimeError) as error:
        logger.debug("A frame found its socket closed: %s", error)


class Expiry:
    """Watches for the end of a socket's token, with one timer; with none for a token that does not end."""

    __slots__ = ("_timer",)

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def start(self, viewer: Viewer, on_end: Callable[[Unauthenticated], None]) -> None:
        """Calls `on_end` once the viewer's token has ended.

        Raises:
            Unauthenticated: it has ended already.
        """
        expires_at = viewer.expires_at
        if expires_at is None or math.isinf(expires_at):
            return
        left_seconds = expires_at - time.time()
        if left_seconds <= 0:
            raise Unauthenticated("The token has expired.")
        # Wall clocks are adjusted and timers drift, so the clock is looked at again when the timer fires.
        timer_seconds = min(left_seconds, _TIMER_SECONDS_MAX)
        self._timer = asyncio.get_running_loop().call_later(timer_seconds, self._look, viewer, on_end)

    def cancel(self) -> None:
        """Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, viewer: Viewer, on_end: Callable[[Unauthenticated], None]) -> None:
        try:
            self.start(viewer, on_end)
        except Unauthenticated as error:
            on_end(error)
