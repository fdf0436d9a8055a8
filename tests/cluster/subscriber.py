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
"""What the kernel may keep for a subscriber that stops reading, so that the server notices soon."""


class Subscriber:
    """Records what one subscriber is told.

    Args:
        name: who it is, in reports.
        channel_id: what it subscribes to.
        nodes: WebSocket URLs; the first connection goes to the first, each later one to any of them.
        after: the cursor it begins at; None for the head of the moment, once.
        delivered: called with (sequence, content) of everything that arrives, repeats too.
        token: what its connections are begun with, None for nothing.
        ends: called with the code (None without one) whenever a connection ends or cannot be made.
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
        """Connections on which the subscription was asked for."""
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
        """Reads again."""
        self._reading.set()

    def drop(self) -> None:
        """Cuts its own connection, without a word."""
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
            # A subscription has its position before the next frame is handled: the pong says that it stands.
            await connection.send('{"type":"ping"}')
            self.connections += 1
            while True:
                await self._reading.wait()
                if not self._take(json.loads(await connection.recv())):
                    return

    def _operations(self) -> dict[str, tuple[str, str | None]]:
        """Which documents each connection subscribes to, in this order, after which cursors; by id."""
        return {"1": (QUERY, self.cursor)}

    def _receive(self, data: dict[str, Any]) -> None:
        """One result of a subscription."""
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
    """Runs subscribers and waits until each has its subscription, or its refusal; ends them afterwards."""
    tasks = [asyncio.create_task(subscriber.run()) for subscriber in subscribers]
    try:
        async with asyncio.timeout(30):
            for subscriber in subscribers:
                await subscriber.connected.wait()
        yield
    finally:
        await end(tasks)


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancels tasks and waits for their ends; again, where a connection that closes just then has swallowed it."""
    waiting = set(tasks)
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=2)
