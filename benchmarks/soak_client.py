"""A subscriber of the soak: a graphql-transport-ws socket that checks the order of its messages and keeps nothing
else."""

import asyncio
import re
from collections.abc import Callable

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException
from websockets.typing import Subprotocol

SUBSCRIPTION = """subscription ($channel: ID!, $after: Cursor) {
  messages(channelId: $channel, after: $after) { sequence cursor content }
}"""
LOOK_SECONDS = 1.0
SIP_SECONDS = 0.05
_MESSAGE = re.compile(r'"sequence":(\d+),"cursor":"([^"]+)"')


class Follower:
    """Reads a channel over any number of connections. What it receives must have no gap and no repeat.

    A `slow` one reads one frame at a time, with pauses.
    """

    def __init__(self, port: int, channel: str, *, slow: bool) -> None:
        self._url = f"ws://127.0.0.1:{port}/graphql"
        self.channel = channel
        self._slow = slow
        self._cursor: str | None = None
        self.sequence = 0
        """The sequence of the newest message received. 0 before the first."""
        self.received = 0
        self.problems: list[str] = []
        self._socket: ClientConnection | None = None

    def reset(self) -> None:
        """Ends the connection as a network does: without a close frame. What is under way is lost."""
        if self._socket is not None:
            self._socket.transport.abort()

    async def visit(self, over: Callable[[], bool]) -> None:
        """Subscribes after its newest cursor and reads until `over()` says so.

        Raises:
            OSError: the connection was lost or refused; the next visit resumes.
        """
        try:
            await self._read(over)
        except (WebSocketException, InvalidHandshake, EOFError, TimeoutError) as error:
            raise ConnectionError(str(error)) from error
        finally:
            self._socket = None

    async def _read(self, over: Callable[[], bool]) -> None:
        protocols = [Subprotocol("graphql-transport-ws")]
        async with connect(
            self._url, subprotocols=protocols, compression=None, ping_interval=None, open_timeout=30, close_timeout=2
        ) as socket:
            self._socket = socket
            await socket.send('{"type":"connection_init"}')
            await socket.recv()
            variables = {"channel": self.channel, "after": self._cursor}
            payload = {"query": SUBSCRIPTION, "variables": variables}
            await socket.send(orjson.dumps({"id": "1", "type": "subscribe", "payload": payload}).decode())
            while not over():
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        frame = await socket.recv(decode=True)
                except TimeoutError:
                    continue
                self._take(str(frame))
                if self._slow:
                    await asyncio.sleep(SIP_SECONDS)

    def _take(self, frame: str) -> None:
        found = _MESSAGE.search(frame)
        if found is None:
            self.problems.append(f"{self.channel}: {frame[:200]}")
            return
        sequence = int(found[1])
        if self.sequence and sequence != self.sequence + 1:
            self.problems.append(f"{self.channel}: {sequence} came after {self.sequence}")
        self.sequence, self._cursor = sequence, found[2]
        self.received += 1
