"""Looks at all connections again and again: pings idle WebSockets, and cuts clients that are gone, late or stuck."""

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from websockets.protocol import State

from transports.serving.connection_set import ConnectionSet
from transports.serving.http_protocol import HttpProtocol
from transports.serving.websocket_protocol import WebSocketProtocol

logger = logging.getLogger(__name__)

AT_ONCE = 250
"""Connections that are looked at in one loop step, or a little more. Each takes 1 to 2 microseconds. If there are more,
they are spread over the tick."""


class Keepalive:
    """Pings idle WebSockets, and cuts connections whose client is gone, late or takes nothing. One task serves all.

    Each connection is checked for slowness every `TICK_SECONDS` and pinged every `ping_seconds`, spread over the ticks.
    It is cut when its buffer has been above the low-water mark for `slow_timeout_seconds` without a break, or when
    nothing at all was heard since the last ping.
    """

    TICK_SECONDS = 1.0

    def __init__(self, connections: ConnectionSet, *, slow_timeout_seconds: float, ping_seconds: float = 20.0) -> None:
        self._connections = connections
        self._slow_timeout_seconds = slow_timeout_seconds
        self._tick_seconds = min(self.TICK_SECONDS, slow_timeout_seconds / 4, ping_seconds / 2)
        self._beats = max(1, round(ping_seconds / self._tick_seconds))
        self.slow_cut = 0
        self.silent_cut = 0

    async def run(self) -> None:
        """Works until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            began, total, looked_at = loop.time(), len(self._connections), 0
            for piece in self._connections.pieces(AT_ONCE):
                try:
                    self.look(piece, loop.time())
                except Exception:
                    logger.exception("a look at the connections has failed; the next one follows")
                looked_at += len(piece)
                if looked_at < total:
                    await asyncio.sleep(began + self._tick_seconds * looked_at / total - loop.time())
            await asyncio.sleep(max(0.0, began + self._tick_seconds - loop.time()))

    def look(self, connections: Iterable[Any], now: float) -> None:
        """One look at each of these connections, at loop time `now` in seconds."""
        for connection in connections:
            if isinstance(connection, HttpProtocol):
                connection.look(now, self._slow_timeout_seconds)
                connection.close_if_idle(now)
            if not isinstance(connection, WebSocketProtocol):
                continue
            if connection.paused_since is None and connection.transport.is_closing():
                connection.paused_since = now  # It closes when its buffer has drained, which may never happen.
            if connection.paused_since is not None:
                if now - connection.paused_since > self._slow_timeout_seconds:
                    self.slow_cut += 1
                    connection.abort()
                continue
            if connection.conn.state is not State.OPEN:
                continue
            connection.beat += 1
            if connection.beat >= self._beats and not connection.transport.is_closing():
                connection.beat = 0
                if connection.heard:
                    connection.ping()
                else:
                    self.silent_cut += 1
                    connection.abort()
