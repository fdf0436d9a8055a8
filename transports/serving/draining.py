"""The uvicorn server with an end in steps: connected clients are closed a few at a time, and none can delay the end."""

import asyncio
import contextlib
import logging
import random
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from resolvers.chat import Chat
from transports.serving.connection_set import ConnectionSet
from transports.serving.keepalive import Keepalive
from transports.serving.websocket_protocol import WebSocketProtocol

logger = logging.getLogger("raqcoon")

STEP_SECONDS = 0.1
"""Time between two steps of the drain, before jitter."""
TELL_SECONDS = 1.0
"""How long open HTTP connections are still answered (with 503) before they are closed."""
LINGER_SECONDS = 1.0
"""How long clients have at least, after the last close frame, to answer it."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long connections may be silent or slow, and how they are ended when the server drains."""

    slow_subscriber_timeout_seconds: float = field(
        default=60.0, metadata={"setting": "slow_subscriber_timeout_seconds"}
    )
    """A connection that takes nothing for this long is cut."""
    keepalive_seconds: float = field(default=20.0, metadata={"setting": "keepalive_seconds"})
    """Time between two pings of a WebSocket."""
    drain_seconds: float = field(default=10.0, metadata={"setting": "drain_seconds"})
    """How long a drain takes at most; then the remaining connections are cut."""
    drain_sockets_per_second: int = field(default=1000, metadata={"setting": "drain_sockets_per_second"})
    """WebSockets closed in each second of a drain; more if the time would not be enough."""


class DrainingServer(uvicorn.Server):
    """uvicorn's server, with `Keepalive` beside it and design 3.7's drain at its end.

    On SIGTERM or SIGINT: posts are refused and `/readyz` says so (`chat.accepting`), the listener closes, answers under
    way are finished, and WebSockets are closed with 1012, in steps over at most half of `drain_seconds`. What is still
    open at the end of this time is cut. A second SIGTERM changes nothing; a second SIGINT cuts at once.

    `cut_signal` replaces SIGINT if another process handles that one. `stop_listening` is called with each listening
    socket before it is closed, if another process holds it too.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        chat: Chat,
        *,
        end_streams: Callable[[], None],
        on_started: Callable[[], None],
        pace: Pace,
        cut_signal: signal.Signals = signal.SIGINT,
        stop_listening: Callable[[socket.socket], None] | None = None,
    ) -> None:
        super().__init__(config)
        self._cut_signal = cut_signal
        self._stop_listening = stop_listening
        self._chat = chat
        self._end_streams = end_streams
        self._on_started = on_started
        self._drain_seconds = pace.drain_seconds
        self._drain_sockets_per_second = pace.drain_sockets_per_second
        connections = ConnectionSet()
        self.server_state.connections = connections  # type: ignore[assignment]
        self.keepalive = Keepalive(
            connections,
            slow_timeout_seconds=pace.slow_subscriber_timeout_seconds,
            ping_seconds=pace.keepalive_seconds,
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handles SIGTERM and SIGINT without raising them again afterwards, so that a drained server exits with 0."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.handle_exit, signal.SIGTERM, None)
        loop.add_signal_handler(self._cut_signal, self.handle_exit, signal.SIGINT, None)
        try:
            yield
        finally:
            # SIGTERM stays handled until the loop is closed: the log still has to be closed, and a second SIGTERM must
            # not interrupt that.
            loop.remove_signal_handler(self._cut_signal)

    async def main_loop(self) -> None:
        self._on_started()
        keepalive = asyncio.create_task(self.keepalive.run())
        try:
            await super().main_loop()
        finally:
            keepalive.cancel()
            await asyncio.gather(keepalive, return_exceptions=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drains. Returns within about `drain_seconds`, whatever the clients do."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._drain_seconds
        self._chat.accepting = False
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            if self._stop_listening is not None:
                with contextlib.suppress(OSError):
                    self._stop_listening(listener)
            listener.close()
        connections = self.server_state.connections
        logger.info("draining %d connections", len(connections))
        self._end_streams()
        told_until = min(deadline, loop.time() + TELL_SECONDS)
        await self._send_away(deadline)
        # Open HTTP connections are answered a while longer, so that balancers and clients get a 503 and not a reset.
        while self._http_connections() and loop.time() < told_until and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        for connection in self._http_connections():
            connection.shutdown()  # Idle: closes. Answering: closes after the answer.
        await self._wait_until_gone(deadline)
        if connections:
            logger.info("cutting %d connections that did not go", len(connections))
        for connection in list(connections):
            transport: Any = connection.transport
            transport.abort()
        await asyncio.sleep(0)
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.gather(*self.server_state.tasks, return_exceptions=True)

    def _http_connections(self) -> list[Any]:
        return [c for c in self.server_state.connections if not isinstance(c, WebSocketProtocol)]

    async def _send_away(self, deadline: float) -> None:
        """Closes WebSockets with 1012, a few at a time, so that their clients do not all come back at once."""
        loop = asyncio.get_running_loop()
        sockets = [c for c in self.server_state.connections if isinstance(c, WebSocketProtocol)]
        random.shuffle(sockets)
        step_seconds = max(STEP_SECONDS, 1 / self._drain_sockets_per_second)
        per_step = max(1, round(self._drain_sockets_per_second * step_seconds))
        steps_left = max(1, int((deadline - loop.time()) / 2 / step_seconds))
        per_step = max(per_step, -(-len(sockets) // steps_left))
        for start in range(0, len(sockets), per_step):
            if start and not self.force_exit:
                await asyncio.sleep(step_seconds * random.uniform(0.5, 1.5))
            for connection in sockets[start : start + per_step]:
                connection.send_away()

    async def _wait_until_gone(self, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = max(deadline, loop.time() + LINGER_SECONDS) if self._drain_seconds else deadline
        while self.server_state.connections and loop.time() < deadline and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
