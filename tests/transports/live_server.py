"""A real uvicorn server on a free port, and a WebSocket client that sends whatever bytes a test wants."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn

from transports.serving.http_protocol import HttpProtocol
from transports.serving.websocket_protocol import WebSocketProtocol


@asynccontextmanager
async def serve(
    app: Any, *, ws: Any = WebSocketProtocol, http: Any = HttpProtocol, max_size: int = 1_048_576
) -> AsyncIterator[int]:
    """Serves an ASGI application on the loopback, and yields its port. At the end no connection or task may be left."""
    config = uvicorn.Config(
        app,
        http=http,
        ws=ws,
        lifespan="off",
        log_config=None,
        ws_ping_interval=None,
        ws_per_message_deflate=False,
        ws_max_size=max_size,
        proxy_headers=False,
        timeout_graceful_shutdown=1,  # After a failed assertion: connections that the test has left open are cut then.
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    # asyncio switches off Nagle's algorithm only if the protocol is named. Without that, every answer takes 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    await server.startup(sockets=[listener])
    try:
        yield listener.getsockname()[1]
        await until(lambda: not server.server_state.tasks and not server.server_state.connections)
    except BaseException:
        await server.shutdown(sockets=[listener])
        raise
    # This is what `shutdown` does if there is nothing to wait for, without its pause of 0.1 s.
    for each in server.servers:
        each.close()
        await each.wait_closed()
    listener.close()


class Refused(Exception):
    """Raised when the server answered the handshake with an HTTP status."""

    def __init__(self, status: int, head: str) -> None:
        super().__init__(head)
        self.status = status
        self.head = head


@dataclass(frozen=True)
class Closed:
    """The close frame of the server. Both are None if the connection ended without one."""

    code: int | None
    reason: str | None


def frame(payload: str | bytes, *, opcode: int | None = None) -> bytes:
    """A masked client frame: text for a string, binary for bytes, unless `opcode` says otherwise."""
    data = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
    first = 0x80 | (opcode if opcode is not None else 1 if isinstance(payload, str) else 2)
    if len(data) < 126:
        header = struct.pack("!BB", first, 0x80 | len(data))
    elif len(data) < 65536:
        header = struct.pack("!BBH", first, 0x80 | 126, len(data))
    else:
        header = struct.pack("!BBQ", first, 0x80 | 127, len(data))
    return header + b"\0\0\0\0" + data  # A mask of zeros leaves the payload as it is.


class RawSocket:
    """A WebSocket that does not check what it sends, and checks everything that it receives."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: str) -> None:
        self.reader = reader
        self.writer = writer
        self.head = head

    @classmethod
    async def open(
        cls, port: int, path: str, *, subprotocol: str | None = None, headers: Mapping[str, str] | None = None
    ) -> "RawSocket":
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
        ]
        if subprotocol is not None:
            lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status = int(head.split()[1])
        if status != 101:
            body = await reader.read()
            writer.close()
            raise Refused(status, head + body.decode())
        return cls(reader, writer, head)

    async def send(self, *payloads: str | bytes | dict[str, Any]) -> None:
        """Sends frames in one packet: objects as JSON, strings as text, bytes as binary."""
        self.writer.write(b"".join(frame(json.dumps(p) if isinstance(p, dict) else p) for p in payloads))
        await self.writer.drain()

    async def receive(self) -> dict[str, Any] | Closed:
        """The next text frame as JSON, or how the server closed the connection."""
        try:
            first, second = await self.reader.readexactly(2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return Closed(None, None)
        assert not second & 0x80, "a server never masks"
        assert first & 0x80, "this server never fragments"
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        data = await self.reader.readexactly(size)
        if first & 0x0F == 8:
            assert size <= 125
            self.writer.write(frame(data, opcode=8))
            return Closed(int.from_bytes(data[:2], "big"), data[2:].decode()) if data else Closed(1005, "")
        assert first & 0x0F == 1, "only text frames"
        value = json.loads(data)
        assert isinstance(value, dict)
        return value

    async def expect(self) -> dict[str, Any]:
        """The next text frame."""
        received = await self.receive()
        assert isinstance(received, dict), received
        return received

    async def expect_close(self) -> Closed:
        """The close frame, after which the connection ends. Anything before it fails the test."""
        received = await self.receive()
        assert isinstance(received, Closed), received
        assert await self.reader.read() == b""
        self.writer.close()
        return received

    async def close(self) -> None:
        """Closes the connection normally, and waits until it is closed."""
        self.writer.write(frame(struct.pack("!H", 1000), opcode=8))
        while not isinstance(await self.receive(), Closed):
            pass
        await self.reader.read()
        self.writer.close()

    def reset(self) -> None:
        """Ends the connection by a TCP reset, as if the client had vanished."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def until(condition: Callable[[], bool]) -> None:
    """Returns when the condition is true. For what the other side of a socket does, there is no event to wait for."""
    while not condition():
        await asyncio.sleep(0.005)
