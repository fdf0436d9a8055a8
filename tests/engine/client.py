"""A graphql-transport-ws client that reads as fast or as slowly as a test wants. It parses frames by itself, because
most of these tests are about bytes that nobody reads."""

import asyncio
import base64
import json
import os
import socket
import struct
from collections.abc import Callable
from typing import Any

import orjson

from tests.transports.live_server import frame

SUBSCRIBE = """subscription ($channel: ID!, $after: Cursor) {
  messages(channelId: $channel, after: $after) { sequence content cursor }
}"""


class Client:
    """One socket, for one task at a time. `buffer_bytes` is how much the kernel may hold for it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.closed: int | None = None
        """The close code after the connection has ended. 1006 if it ended without one."""
        self._buffer = bytearray()
        self._position = 0

    @classmethod
    async def open(
        cls,
        port: int,
        path: str = "/graphql",
        *,
        subprotocol: str | None = "graphql-transport-ws",
        buffer_bytes: int | None = None,
        init: bool = True,
        headers: tuple[str, ...] = (),
    ) -> "Client":
        """Connects and, unless `init` is False, initialises."""
        sock = await connect(port, buffer_bytes=buffer_bytes)
        self = cls(sock)
        try:
            await self.handshake(port, path, subprotocol, headers)
            if init and subprotocol is not None:
                await self.send({"type": "connection_init"})
                assert (await self.next_frame())["type"] == "connection_ack"
        except BaseException:
            sock.close()
            raise
        return self

    async def handshake(self, port: int, path: str, subprotocol: str | None, headers: tuple[str, ...] = ()) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            *([f"Sec-WebSocket-Protocol: {subprotocol}"] if subprotocol else []),
            *headers,
        ]
        await self.send_bytes("\r\n".join([*lines, "", ""]).encode())
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not await self._more():
                raise ConnectionError("closed during the handshake")
        head = bytes(self._buffer[:end])
        self._position = end + 4
        if b" 101 " not in head.split(b"\r\n", 1)[0]:
            raise ConnectionError(head.decode())

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.sock.close()

    @staticmethod
    def storm_request(port: int, channel: str, after: str) -> tuple[bytes, bytes]:
        """Makes a handshake, and sends these frames after it was answered."""
        head = (
            f"GET /graphql HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            "Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        )
        frames = [{"type": "connection_init"}, Client.operation("1", SUBSCRIBE, channel=channel, after=after)]
        return head.encode(), b"".join(frame(json.dumps(value)) for value in frames)

    @staticmethod
    def operation(id_: str, query: str, **variables: object) -> dict[str, Any]:
        return {"id": id_, "type": "subscribe", "payload": {"query": query, "variables": variables}}

    async def send(self, *values: dict[str, Any]) -> None:
        await self.send_bytes(b"".join(frame(json.dumps(value)) for value in values))

    async def send_bytes(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def subscribe(self, channel: str = "general", after: str | None = None, id_: str = "1") -> None:
        """Subscribes. Returns when the subscription is set up."""
        await self.send(self.operation(id_, SUBSCRIBE, channel=channel, after=after), {"type": "ping"})

    async def settle(self) -> None:
        """Returns when the server has handled every frame sent so far. Nothing else may arrive before."""
        await self.send({"type": "ping"})
        assert (await self.next_frame())["type"] == "pong"

    async def next_frame(self) -> dict[str, Any]:
        """The JSON of the next frame. WebSocket pings that come before it are answered.

        Raises:
            ConnectionError: the connection has ended. `closed` says how.
        """
        while True:
            opcode, data = await self._next()
            if opcode == 1:
                value: dict[str, Any] = orjson.loads(data)
                return value
            if opcode == 9:
                await self.send_bytes(frame(data, opcode=10))
            elif opcode == 8:
                self.closed = int.from_bytes(data[:2], "big") if data else 1005
                raise ConnectionError(f"closed with {self.closed}: {data[2:]!r}")

    async def next_message(self) -> dict[str, Any]:
        """The next message of a subscription. Pongs are ignored."""
        while True:
            value = await self.next_frame()
            if value["type"] == "next":
                message: dict[str, Any] = value["payload"]["data"]["messages"]
                return message
            assert value["type"] == "pong", value

    async def read_run(self, first: int, last: int, check: Callable[[dict[str, Any]], bool] | None = None) -> str:
        """Reads messages `first`…`last`, and asserts that exactly these come, in order. Returns the last cursor."""
        cursor = ""
        for sequence in range(first, last + 1):
            message = await self.next_message()
            assert message["sequence"] == sequence, (message["sequence"], sequence)
            assert check is None or check(message)
            cursor = message["cursor"]
        return cursor

    async def until_closed(self) -> int:
        """Reads everything up to the end and returns the close code."""
        try:
            while True:
                await self.next_frame()
        except (ConnectionError, OSError):
            assert self.closed is not None
            return self.closed

    def reset(self) -> None:
        """Ends the connection by a TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    async def _next(self) -> tuple[int, bytes]:
        await self._need(2)
        buffer, start = self._buffer, self._position
        assert not buffer[start + 1] & 0x80, "a server never masks"
        size = buffer[start + 1] & 0x7F
        head = 2
        if size >= 126:
            head = 4 if size == 126 else 10
            await self._need(head)
            buffer, start = self._buffer, self._position
            size = int.from_bytes(buffer[start + 2 : start + head], "big")
        await self._need(head + size)
        buffer, start = self._buffer, self._position
        data = bytes(buffer[start + head : start + head + size])
        opcode = buffer[start] & 0x0F
        self._position = start + head + size
        return opcode, data

    async def _need(self, count: int) -> None:
        while len(self._buffer) - self._position < count:
            if not await self._more():
                self.closed = self.closed or 1006
                raise ConnectionError(f"closed with {self.closed}")

    async def _more(self) -> bool:
        if self._position:
            del self._buffer[: self._position]
            self._position = 0
        try:
            data = await asyncio.get_running_loop().sock_recv(self.sock, 262_144)
        except OSError:
            return False
        self._buffer += data
        return bool(data)


async def connect(port: int, *, buffer_bytes: int | None = None) -> socket.socket:
    """A TCP connection to the server, without Nagle's pause."""
    sock = socket.socket()
    sock.setblocking(False)
    if buffer_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except BaseException:
        sock.close()
        raise
    return sock
