"""Sinks for sockets: a batch becomes WebSocket frames, once for all subscribers whose operation ids are equally long.

A `next` frame is `{"id":"…","type":"next","payload":` + the cohort's shared bytes + `}`. Between two subscribers only
the id differs, so a batch is laid out once as pieces between which every subscriber's own head is joined: one C call.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import orjson

from delivery.sink import Batch, Sink
from errors import RaqcoonError

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
OnEnd = Callable[[RaqcoonError | None], None]

DIRECT = "raqcoon.direct"
"""Name of the ASGI scope extension under which our uvicorn protocol offers itself; see `uvicorn_protocol`."""


class CountingSink(Sink, Protocol):
    """A sink that knows how much it took."""

    delivered: int
    """Messages taken so far."""


class Direct(Protocol):
    """What our uvicorn protocol offers beyond ASGI."""

    def write_frames(self, data: bytes) -> bool:
        """Writes complete WebSocket frames in this loop step, or nothing of them when it cannot take them now."""

    async def drained(self) -> None:
        """Returns once the socket's buffer is below its low-water mark; never on a connection that is gone."""


def text_frame_header(length: int) -> bytes:
    """The header of an unmasked, unfragmented text frame of `length` bytes (RFC 6455 section 5.2)."""
    if length < 126:
        return bytes((0x81, length))
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


class _NextFrames:
    """A batch's `next` frames for heads of one length. Remembers the last head: many clients count their ids from 1."""

    __slots__ = ("_head", "_joined", "_pieces")

    def __init__(self, payloads: list[bytes], head_length: int) -> None:
        pieces = []
        before = b""
        for payload in payloads:
            pieces.append(before + text_frame_header(head_length + len(payload) + 1))
            before = payload + b"}"
        pieces.append(before)
        self._pieces = pieces
        self._head = b""
        self._joined = b""

    def joined(self, head: bytes) -> bytes:
        if head != self._head:
            self._joined = head.join(self._pieces)
            self._head = head
        return self._joined


def _next_head(operation_id: str) -> bytes:
    return b'{"id":' + orjson.dumps(operation_id) + b',"type":"next","payload":'


class DirectSink:
    """`next` frames of one operation, written straight to the transport."""

    __slots__ = ("_direct", "_head", "_on_end", "delivered")

    def __init__(self, direct: Direct, operation_id: str, on_end: OnEnd) -> None:
        self.delivered = 0
        self._direct = direct
        self._head = _next_head(operation_id)
        self._on_end = on_end

    def write(self, batch: Batch) -> bool:
        head = self._head
        length = len(head)
        frames = batch.wire(length, lambda shared: _NextFrames(shared.payloads, length))
        if self._direct.write_frames(frames.joined(head)):
            self.delivered += len(batch.payloads)
            return True
        return False

    async def writable(self) -> None:
        await self._direct.drained()

    def end(self, error: RaqcoonError | None) -> None:
        self._on_end(error)


def _plain_frames(batch: Batch) -> bytes:
    return b"".join(text_frame_header(len(payload)) + payload for payload in batch.payloads)


class DirectPlainSink:
    """Frames that are the payloads themselves: the same bytes for every socket of the channel."""

    __slots__ = ("_direct", "_on_end", "delivered")

    def __init__(self, direct: Direct, on_end: OnEnd) -> None:
        self.delivered = 0
        self._direct = direct
        self._on_end = on_end

    def write(self, batch: Batch) -> bool:
        if self._direct.write_frames(batch.wire("plain", _plain_frames)):
            self.delivered += len(batch.payloads)
            return True
        return False

    async def writable(self) -> None:
        await self._direct.drained()

    def end(self, error: RaqcoonError | None) -> None:
        self._on_end(error)


class SendSink:
    """Frames through ASGI's `send`, for servers that offer nothing better: one batch under way, no queue.

    `head` and `tail` enclose each payload. A batch is taken when the one before it has been sent.
    """

    __slots__ = ("_head", "_on_end", "_send", "_sending", "_tail", "delivered")

    def __init__(self, send: Send, head: str, tail: str, on_end: OnEnd) -> None:
        self._send = send
        self._head = head
        self._tail = tail
        self._on_end = on_end
        self._sending: asyncio.Task[None] | None = None
        self.delivered = 0

    def write(self, batch: Batch) -> bool:
        if self._sending is not None:
            return False
        self._sending = asyncio.get_running_loop().create_task(self._send_batch(batch))
        self.delivered += len(batch.payloads)
        return True

    async def _send_batch(self, batch: Batch) -> None:
        for payload in batch.payloads:
            await self._send({"type": "websocket.send", "text": self._head + payload.decode() + self._tail})
        self._sending = None

    async def writable(self) -> None:
        while self._sending is not None:
            await asyncio.wait([self._sending])
            if self._sending is not None:  # It failed: the connection is gone.
                await asyncio.get_running_loop().create_future()

    def end(self, error: RaqcoonError | None) -> None:
        self._on_end(error)


def make_sink(scope: MutableMapping[str, Any], send: Send, operation_id: str, on_end: OnEnd) -> CountingSink:
    """The sink of a graphql-transport-ws operation on the connection of `scope`."""
    direct = scope.get("extensions", {}).get(DIRECT)
    if direct is not None:
        return DirectSink(direct, operation_id, on_end)
    return SendSink(send, _next_head(operation_id).decode(), "}", on_end)


def make_plain_sink(scope: MutableMapping[str, Any], send: Send, on_end: OnEnd) -> CountingSink:
    """The sink of a plain WebSocket on the connection of `scope`."""
    direct = scope.get("extensions", {}).get(DIRECT)
    if direct is not None:
        return DirectPlainSink(direct, on_end)
    return SendSink(send, "", "", on_end)
