"""Sinks for sockets: a batch becomes WebSocket frames, once for all subscribers whose operation ids are equally long.

A `next` frame is `{"id":"…","type":"next","payload":` + the cohort's shared bytes + `}`. The frames of two subscribers
differ only in the id. So a batch is cut into pieces once, and for each subscriber one call in C joins the pieces with
its own head between them.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from functools import cache, lru_cache
from typing import Any, Protocol

import orjson

from delivery.sink import Batch, Claim, Entry, Frames, Holder, Sink
from errors import RaqcoonError

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
OnEnd = Callable[[RaqcoonError | None], None]

DIRECT = "raqcoon.direct"
"""The ASGI scope extension that holds our uvicorn protocol; see `serving.websocket_protocol`."""


class Direct(Protocol):
    """What our uvicorn protocol offers beyond ASGI."""

    def write_frames(self, data: bytes) -> bool:
        """Writes complete WebSocket frames in this loop step and returns True; or writes nothing and returns False when
        it cannot take them now."""

    async def drained(self) -> None:
        """Returns once the socket is open and its buffer below its low-water mark. It never returns when the client is
        gone."""

    def claim(self, holder: Holder) -> Callable[[bytes], object] | None:
        """A write that need not be asked for. It may be used until `holder` is told that it is blocked, or releases it.
        None when the socket is blocked now."""

    def release(self, holder: Holder) -> None:
        """Ends the claim of `holder`, which is not told of it."""

    def has_unread(self) -> bool:
        """Whether something that the client has sent waits to be parsed, or to be received by the application."""


def text_frame_header(length: int) -> bytes:
    """The header of an unmasked, unfragmented text frame of `length` bytes (RFC 6455 section 5.2)."""
    if length < 126:
        return bytes((0x81, length))
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big")
    return b"\x81\x7f" + length.to_bytes(8, "big")


def has_unread(scope: MutableMapping[str, Any]) -> bool:
    """Whether something that the client has sent waits in the server. False if the server does not say so."""
    direct: Direct | None = scope.get("extensions", {}).get(DIRECT)
    return direct is not None and direct.has_unread()


def write_texts(scope: MutableMapping[str, Any], texts: Sequence[str]) -> bool:
    """Writes text frames to the socket of `scope` in one piece and returns True; or writes nothing and returns False
    when the server offers no such way or the socket cannot take them now."""
    direct: Direct | None = scope.get("extensions", {}).get(DIRECT)
    if direct is None:
        return False
    payloads = [text.encode() for text in texts]
    return direct.write_frames(b"".join([part for each in payloads for part in (text_frame_header(len(each)), each)]))


class _LaidOut:
    """A batch's frames for heads of one length. Remembers the last head: many clients count their ids from 1."""

    __slots__ = ("_head", "_joined", "_pieces")

    def __init__(self, payloads: list[bytes], head_length: int, tail: bytes) -> None:
        pieces = []
        before = b""
        for payload in payloads:
            pieces.append(before + text_frame_header(head_length + len(payload) + len(tail)))
            before = payload + tail
        pieces.append(before)
        self._pieces = pieces
        self._head = b""
        self._joined = b"" if head_length else b"".join(pieces)

    def joined(self, head: bytes) -> bytes:
        if head != self._head:
            self._joined = head.join(self._pieces)
            self._head = head
        return self._joined


@cache
def _layout(head_length: int, tail: bytes) -> Callable[[Batch], Frames]:
    """The layout of frames that consist of a head of so many bytes, a payload and `tail`.

    All layouts are kept for ever: an operation id has at most 1,024 bytes, so there are only some thousand lengths.
    """
    return lambda batch: _LaidOut(batch.payloads, head_length, tail)


@lru_cache(maxsize=1024)
def _next_head(operation_id: str) -> bytes:
    """The head of an operation's `next` frames; one object for all clients that count their ids from 1."""
    return b'{"id":' + orjson.dumps(operation_id) + b',"type":"next","payload":'


class DirectSink(Sink):
    """Writes frames straight to the transport, each with `head` before its payload and `tail` after it."""

    __slots__ = ("_direct", "_head", "_layout", "_on_end")

    def __init__(self, direct: Direct, head: bytes, tail: bytes, on_end: OnEnd) -> None:
        self._direct = direct
        self._head = head
        self._layout = _layout(len(head), tail)
        self._on_end = on_end

    def write(self, batch: Batch) -> bool:
        return self._direct.write_frames(batch.wire(self._layout).joined(self._head))

    async def writable(self) -> None:
        await self._direct.drained()

    def end(self, error: RaqcoonError | None) -> None:
        self._on_end(error)

    def claim(self, holder: Holder) -> Claim | None:
        write = self._direct.claim(holder)
        return None if write is None else Claim(self._layout, self._head, write)

    def release(self, holder: Holder) -> None:
        self._direct.release(holder)


class SendSink(Sink):
    """Sends frames through ASGI's `send`, for servers that offer nothing better. There is no queue.

    `head` and `tail` enclose each payload. A batch is taken only when the one before it has been sent.
    """

    __slots__ = ("_head", "_on_end", "_send", "_sending", "_tail", "_unsent")

    def __init__(self, send: Send, head: str, tail: str, on_end: OnEnd) -> None:
        self._send = send
        self._head = head
        self._tail = tail
        self._on_end = on_end
        self._sending: asyncio.Task[None] | None = None
        self._unsent: deque[tuple[Entry, bytes]] = deque()

    def write(self, batch: Batch) -> bool:
        if self._sending is not None:
            return False
        self._unsent.extend(zip(batch.entries, batch.payloads, strict=True))
        self._sending = asyncio.get_running_loop().create_task(self._send_batch())
        return True

    async def _send_batch(self) -> None:
        while self._unsent:
            _, payload = self._unsent.popleft()
            await self._send({"type": "websocket.send", "text": self._head + payload.decode() + self._tail})
        self._sending = None

    def unsent(self) -> Sequence[Entry]:
        return [entry for entry, _ in self._unsent]

    def take_back(self) -> None:
        self._unsent.clear()

    async def writable(self) -> None:
        while self._sending is not None:
            await asyncio.wait([self._sending])
            if self._sending is not None:  # It failed: the connection is gone.
                await asyncio.get_running_loop().create_future()

    def end(self, error: RaqcoonError | None) -> None:
        self._on_end(error)


def make_sink(scope: MutableMapping[str, Any], send: Send, operation_id: str, on_end: OnEnd) -> Sink:
    """The sink of a graphql-transport-ws operation on the connection of `scope`."""
    return _make_sink(scope, send, _next_head(operation_id), b"}", on_end)


def make_plain_sink(scope: MutableMapping[str, Any], send: Send, on_end: OnEnd) -> Sink:
    """The sink of a plain WebSocket on the connection of `scope`: its frames are the payloads themselves."""
    return _make_sink(scope, send, b"", b"", on_end)


def _make_sink(scope: MutableMapping[str, Any], send: Send, head: bytes, tail: bytes, on_end: OnEnd) -> Sink:
    direct = scope.get("extensions", {}).get(DIRECT)
    if direct is not None:
        return DirectSink(direct, head, tail, on_end)
    return SendSink(send, head.decode(), tail.decode(), on_end)
