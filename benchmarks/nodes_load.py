"""The load for several nodes. It is one process, so one clock measures the time from each post to its delivery."""

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

import orjson

_QUERY = "subscription M($channelId: ID!) { messages(channelId: $channelId) { sequence content } }"
SUBSCRIPTIONS_PER_SOCKET = 100
_HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bm9ib2R5IGxvb2tzIGF0IQ==\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)


@dataclass(slots=True)
class Listening:
    """What the subscribers of one node have received: the latency of each delivery in seconds."""

    latencies: list[float] = field(default_factory=list)
    confused: int = 0
    """Deliveries whose sequence was not the next one of their channel."""


async def listen(port: int, channel_ids: list[str], heard: Listening, ready: asyncio.Barrier) -> None:
    """Subscribes to every channel over a few sockets, and records latencies until it is cancelled."""
    groups = [
        channel_ids[i : i + SUBSCRIPTIONS_PER_SOCKET] for i in range(0, len(channel_ids), SUBSCRIPTIONS_PER_SOCKET)
    ]
    async with asyncio.TaskGroup() as tasks:
        for group in groups:
            tasks.create_task(_listen(port, group, heard, ready))


async def _listen(port: int, channel_ids: list[str], heard: Listening, ready: asyncio.Barrier) -> None:
    loop = asyncio.get_running_loop()
    transport, listener = await loop.create_connection(lambda: _Listener(heard), "127.0.0.1", port)
    try:
        transport.write(_HANDSHAKE % port)
        await listener.until(b"HTTP")
        listener.send({"type": "connection_init"})
        await listener.until("connection_ack")
        for channel_id in channel_ids:
            payload = {"query": _QUERY, "variables": {"channelId": channel_id}}
            listener.send({"id": channel_id, "type": "subscribe", "payload": payload})
        listener.send({"type": "ping"})
        await listener.until("pong")
        await asyncio.sleep(0.5)  # by then the last subscription has read its head
        await ready.wait()
        await listener.lost
    finally:
        transport.abort()


class _Listener(asyncio.Protocol):
    """A WebSocket client that needs very little CPU, because load and server share the cores that are measured."""

    def __init__(self, heard: Listening) -> None:
        self._heard = heard
        self._last: dict[str, int] = {}
        self._buffer = bytearray()
        self._upgraded = False
        self._awaited: object = None
        self._arrived = asyncio.Event()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_exception(error or ConnectionError("the node closed a listener's socket"))

    async def until(self, what: object) -> None:
        """Waits for a message of this type, or for the end of the handshake."""
        self._awaited = what
        self._arrived.clear()
        await self._arrived.wait()

    def send(self, message: object) -> None:
        """A text frame. Its mask is zero, so the payload stays as it is."""
        body = orjson.dumps(message)
        size = bytes((0x80 | len(body),)) if len(body) < 126 else b"\xfe" + len(body).to_bytes(2)
        self._transport.write(b"\x81" + size + bytes(4) + body)

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter_ns()
        buffer = self._buffer
        buffer += data
        start = 0
        if not self._upgraded:
            start = buffer.find(b"\r\n\r\n") + 4
            if start < 4:
                return
            self._upgraded = True
            self._arrived.set()
        while len(buffer) >= start + 4:
            size, head = buffer[start + 1], 2
            if size == 126:
                size, head = int.from_bytes(buffer[start + 2 : start + 4]), 4
            if len(buffer) < start + head + size:
                break
            if buffer[start] == 0x81:
                self._hear(orjson.loads(bytes(buffer[start + head : start + head + size])), now)
            start += head + size
        del buffer[:start]

    def _hear(self, received: dict[str, Any], now: int) -> None:
        if received["type"] != "next":
            if received["type"] == self._awaited:
                self._arrived.set()
            return
        message, channel_id = received["payload"]["data"]["messages"], received["id"]
        self._heard.latencies.append((now - int(message["content"][:20])) / 1e9)
        sequence = message["sequence"]
        if sequence != self._last.get(channel_id, sequence - 1) + 1:
            self._heard.confused += 1
        self._last[channel_id] = sequence


class Poster:
    """One connection that posts over the REST shim. It sends each post after the answer to the one before."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.posted = 0

    async def run(self, channel_ids: list[str], first: int, until: float, pause_seconds: float = 0.0) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            f"POST /api/messages HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
            "Content-Length: "
        )
        i = first
        while time.perf_counter() < until:
            body = json.dumps(
                {
                    "channel_id": channel_ids[i % len(channel_ids)],
                    "author": "bench",
                    "content": f"{time.perf_counter_ns():020}" + "." * 44,
                }
            )
            writer.write(f"{head}{len(body)}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            size = next(
                int(line.partition(b":")[2])
                for line in answer.splitlines()
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(size)
            self.posted += 1
            i += 1
            if pause_seconds:
                await asyncio.sleep(pause_seconds)
        writer.close()
