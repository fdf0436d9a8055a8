"""Looks at all connections from time to time: pings idle WebSockets, cuts whoever is gone, overdue or takes nothing."""

import asyncio
import logging
from typing import Any

from websockets.protocol import State

from transports.serving.http_protocol import HttpProtocol
from transports.serving.websocket_protocol import WebSocketProtocol

logger = logging.getLogger(__name__)


class Keepalive:
    """Pings idle WebSockets and cuts connections that are gone, overdue or take nothing. One task for all of them.

    Each connection is looked at every `TICK_SECONDS` for slowness and pinged every `ping_seconds`, spread over the
    ticks. It is cut when its buffer has stood above the low-water mark for `slow_timeout_seconds` without falling
    below it once, or when nothing at all was heard since the last ping.
    """

    TICK_SECONDS = 1.0

    def __init__(self, connections: set[Any], *, slow_timeout_seconds: float, ping_seconds: float = 20.0) -> None:
        self._connections = connections
        self._slow_timeout_seconds = slow_timeout_seconds
        self._tick_seconds = min(self.TICK_SECONDS, slow_timeout_seconds / 4, ping_seconds / 2)
        self._beats = max(1, round(ping_seconds / self._tick_seconds))
        self._ticks = 0
        self.slow_cut = 0
        self.silent_cut = 0

    async def run(self) -> None:
        """Works until it is cancelled."""
        tick_seconds = self._tick_seconds
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(tick_seconds)
            try:
                self.tick(loop.time())
            except Exception:
                logger.exception("a look at the connections has failed; the next one follows")

    def tick(self, now: float) -> None:
        """One look at every connection, at loop time `now` in seconds."""
        self._ticks += 1
        for connection in list(self._connections):
            if isinstance(connection, HttpProtocol):
                connection.look(now, self._slow_timeout_seconds)
            if not isinstance(connection, WebSocketProtocol):
                continue
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
