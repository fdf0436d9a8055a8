"""A GraphQL subscriber that never gives up: it reconnects, to any node, with its newest cursor."""

import asyncio
import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage
from websockets.typing import Subprotocol

QUERY = """
subscription Messages($channelId: ID!, $after: Cursor) {
  messages(channelId: $channelId, after: $after) { sequence cursor content }
}
"""
PAUSE_SECONDS = (0.05, 0.3)
_UNREAD_BYTES = 4096
"""How much the kernel may hold for a subscriber that does not read. It is little, so that the server notices soon."""


class Subscriber:
    """Records what one subscriber receives.

    Args:
        name: the name in reports.
        channel_id: what it subscribes to.
        nodes: WebSocket URLs. The first connection goes to the first one, and each later one to any of them.
        after: the cursor at which it begins. None is the head at that time.
        delivered: called with (sequence, content) of everything that arrives, also of repeats.
        token: the token of its connections, None for no token.
        ends: called whenever a connection ends or cannot be opened, with the code (None if there is none).
    """

    def __init__(
        self,
        name: str,
        channel_id: str,
        nodes: Sequence[str],
        *,
        after: str | None = None,
        delivered: Callable[[int, str], None] | None = None,
        ended: Callable[[int | None], None] | None = None,
        token: str | None = None,
    ) -> None:
        self.name = name
        self._init = json.dumps({"type": "connection_init", **({} if token is None else {"payload": {"token": token}})})
        self.channel_id = channel_id
        self.nodes = list(nodes)
        self.cursor = after
        self.record: list[tuple[int, str]] = []
        self.closes: list[int | None] = []
        self.errors: list[dict[str, Any]] = []
        self.connections = 0
        """On how many connections it has subscribed."""
        self.connected = asyncio.Event()
        self._delivered = delivered
        self._ended = ended
        self._reading = asyncio.Event()
        self._reading.set()
        self._moved = asyncio.Event()
        self._socket: ClientConnection | None = None

    @property
    def sequences(self) -> list[int]:
        return [sequence for sequence, _ in self.record]

    @property
    def contents(self) -> list[str]:
        return [content for _, content in self.record]

    def pause(self) -> None:
        """Stops reading from the socket."""
        self._reading.clear()

    def go_on(self) -> None:
        """Continues to read."""
        self._reading.set()

    def drop(self) -> None:
        """Cuts its own connection without a close frame."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def until(self, sequence: int) -> None:
        """Returns once `sequence` has arrived."""
        while not self.record or self.record[-1][0] < sequence:
            self._moved.clear()
            await self._moved.wait()

    async def run(self) -> None:
        """Subscribes until it is cancelled."""
        url = self.nodes[0]
        while True:
            code: int | None = None
            try:
                await self._connection(url)
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd is not None else None
            except (OSError, InvalidHandshake, InvalidMessage, TimeoutError, EOFError):
                pass
            self._socket = None
            self.connected.clear()
            self.closes.append(code)
            if self._ended is not None:
                self._ended(code)
            await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
            url = random.choice(self.nodes)

    async def _connection(self, url: str) -> None:
        address = urlsplit(url)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _UNREAD_BYTES)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(5):
                await asyncio.get_running_loop().sock_connect(sock, (address.hostname, address.port))
        except BaseException:
            sock.close()
            raise
        async with connect(
            url,
            sock=sock,
            subprotocols=[Subprotocol("graphql-transport-ws")],
            compression=None,
            ping_interval=None,
            open_timeout=5,
            close_timeout=1,
            max_queue=4,
        ) as connection:
            self._socket = connection
            await connection.send(self._init)
            async with asyncio.timeout(10):
                await connection.recv()
            for id_, (query, after) in self._operations().items():
                payload = {"query": query, "variables": {"channelId": self.channel_id, "after": after}}
                await connection.send(json.dumps({"id": id_, "type": "subscribe", "payload": payload}))
            # A subscription is set up before the next frame is handled. So the pong says that it is.
            await connection.send('{"type":"ping"}')
            self.connections += 1
            while True:
                await self._reading.wait()
                if not self._take(json.loads(await connection.recv())):
                    return

    def _operations(self) -> dict[str, tuple[str, str | None]]:
        """The documents that each connection subscribes to, in this order, with their cursors, by id."""
        return {"1": (QUERY, self.cursor)}

    def _receive(self, data: dict[str, Any]) -> None:
        """Handles one result of a subscription."""
        message = data["messages"]
        self.cursor = message["cursor"]
        self.record.append((message["sequence"], message["content"]))
        self._moved.set()
        if self._delivered is not None:
            self._delivered(message["sequence"], message["content"])

    def _take(self, frame: dict[str, Any]) -> bool:
        kind = frame["type"]
        if kind == "next":
            self._receive(frame["payload"]["data"])
        elif kind == "pong":
            self.connected.set()
        elif kind == "error":
            self.errors += frame["payload"]
            self.connected.set()
            return False
        elif kind == "complete":
            return False
        return True


@asynccontextmanager
async def subscribed(*subscribers: Subscriber) -> AsyncIterator[None]:
    """Runs subscribers and waits until each has its subscription or was refused. Ends them afterwards."""
    tasks = [asyncio.create_task(subscriber.run()) for subscriber in subscribers]
    try:
        async with asyncio.timeout(30):
            for subscriber in subscribers:
                await subscriber.connected.wait()
        yield
    finally:
        await end(tasks)


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels tasks and waits for their ends. If a connection that is just closing has swallowed the cancellation, it
    is repeated."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=2)
