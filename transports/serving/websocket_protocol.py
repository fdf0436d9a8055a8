"""uvicorn's WebSocket protocol with less memory, with a way to write frames in one step, and with a keepalive that can
tell a slow client from one that is gone.

What differs from `WebSocketsSansIOProtocol` (uvicorn 0.54), and why:

- `write_frames`, `drained` and `claim`, offered through the ASGI scope's `extensions`. They make a fan-out to thousands
  of sockets possible: the check for room and the write happen in the same step, or there is no check if it is known
  that there is room.
- `Keepalive` sends pings, and cuts clients that take nothing. uvicorn's own pings wait behind the buffered bytes, and
  end a slow client with 1011 although it reads; graphql-ws clients treat that as fatal. uvicorn's `close()` waits for a
  buffer that may never drain. Here a cut is an abort: the client sees 1006, reconnects and resumes.
- The kernel keeps few unsent bytes for each socket (`limit_unsent`). Otherwise a client that does not read makes it
  hold 4 MB.
- Memory: `__slots__` that also name uvicorn's attributes, a small queue and gate, and request and response are dropped
  after the handshake.
"""

import logging
from asyncio.transports import BaseTransport
from collections.abc import Callable
from random import randrange
from time import perf_counter
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request
from websockets.protocol import State

from delivery.sink import Holder
from transports.gate.admission import Admission
from transports.serving.held_bytes import FREE_BYTES, HeldBytes
from transports.serving.lean_waiting import Gate, Inbox
from transports.serving.socket_options import limit_unsent
from transports.serving.turns import BODY_BYTE_SECONDS, ROUND_SECONDS, turns_of
from transports.wire.sinks import DIRECT

logger = logging.getLogger(__name__)

FRAGMENTS_MAX = 256
"""Fragments of a message that are kept one by one. Then they are joined, so that empty ones take no memory."""
PONG_BYTES_MAX = 127
SLICE_BYTES = 2 * 1024
"""How much of one connection is parsed between two looks at the clock: 340 of the shortest frames."""


class WebSocketProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection. Pass it as uvicorn's `ws=`, with `ws_ping_interval=None`: `Keepalive` does that."""

    __slots__ = (
        "admission",
        "app",
        "app_state",
        "asgi_version",
        "beat",
        "client",
        "close_sent",
        "close_timeout",
        "close_timer",
        "config",
        "conn",
        "connections",
        "curr_msg_data_type",
        "default_headers",
        "disconnected",
        "frames",
        "handled",
        "handshake_complete",
        "handshake_initiated",
        "heard",
        "held",
        "held_bytes",
        "holders",
        "initial_response",
        "last_ping_rtt",
        "leaving",
        "logger",
        "loop",
        "opening",
        "paused_since",
        "pending_ping_payload",
        "ping_interval",
        "ping_sent_at",
        "ping_timeout",
        "ping_timer",
        "pong_owed",
        "pong_timer",
        "queue",
        "queued",
        "read_paused",
        "request",
        "response",
        "root_path",
        "scheme",
        "scope",
        "server",
        "tasks",
        "transport",
        "turns",
        "unparsed",
        "writable",
    )

    admission: Admission | None
    paused_since: float | None
    heard: bool
    beat: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = Inbox()  # type: ignore[assignment]
        self.writable = Gate()  # type: ignore[assignment]
        self.admission = None
        self.turns = turns_of(kwargs["server_state"])
        self.held_bytes: HeldBytes | None = None
        self.held = 0
        self.queued = self.handled = 0  # Bytes of the message that the application takes next, or works on.
        self.paused_since = None
        self.pong_owed: bytes | None = None
        self.unparsed = b""
        self.holders: tuple[Holder, ...] = ()
        self.leaving = False
        self.opening: Gate | None = None
        self.heard = True
        # Connections that came together are not pinged together.
        self.beat = randrange(-8, 8)

    # -- the direct way out ------------------------------------------------------------------------------------

    def write_frames(self, data: bytes) -> bool:
        """Writes complete, unmasked frames in this loop step and returns True, or writes nothing and returns False.

        False: the buffer is above its high-water mark, or the connection is not open. Never raises.
        """
        if not self._takes_frames():
            return False
        try:
            self.transport.write(data)
        except RuntimeError:  # uvloop, when the transport was lost a moment ago.
            return False
        return True

    def _takes_frames(self) -> bool:
        return not (
            self.paused_since is not None
            or self.close_sent
            or self.disconnected
            or self.conn.state is not State.OPEN
            or self.transport.is_closing()
        )

    def claim(self, holder: Holder) -> Callable[[bytes], object] | None:
        """A write that need not be asked for. It may be used until `holder` is told that it is blocked, or releases it.
        None when the connection is blocked now."""
        if not self._takes_frames():
            return None
        self.holders = (*self.holders, holder)
        return self.transport.write

    def release(self, holder: Holder) -> None:
        """Ends the claim of `holder`, which is not told of it."""
        self.holders = tuple(other for other in self.holders if other is not holder)

    def _block(self) -> None:
        """Ends all claims. Called in the step in which the buffer is full or a close frame is written, since a
        transport that is closed with bytes in its buffer still accepts more. What is written to a lost one is
        dropped."""
        holders, self.holders = self.holders, ()
        for holder in holders:
            holder.blocked()

    def has_unread(self) -> bool:
        """Whether something that the client has sent waits to be parsed, or to be received by the application."""
        return bool(self.unparsed) or not self.queue.empty()

    async def drained(self) -> None:
        """Returns once the buffer is below its low-water mark. It never returns if the connection is gone.

        If the handshake is not answered yet, it first waits for that.
        """
        if self.conn.state is State.CONNECTING:
            if self.opening is None:
                self.opening = Gate()
                self.opening.clear()
            await self.opening.wait()
        await self.writable.wait()
        if not self._takes_frames():
            await self.loop.create_future()

    # -- uvicorn's hooks ---------------------------------------------------------------------------------------

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        limit_unsent(transport.get_extra_info("socket"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._block()
        # uvicorn would say 1005, which means a close frame without a code. If there was a close frame, its event is in
        # the queue before this one.
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        super().connection_lost(exc)
        if self.admission is not None:
            self.admission.leave(self.client[0] if self.client else None)
        if self.held_bytes is not None:
            self.held_bytes.change(self.held, 0)
            self.held_bytes = None  # A turn that was asked for may still come.
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"].pop(DIRECT, None)  # Breaks a cycle of references, so that memory is freed at once.
        self.conn.parser.close()  # Breaks another one: a suspended generator that refers to its owner.

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        # Frames cannot be shared if each connection compresses its own.
        if self.handshake_initiated and not self.close_sent and not self.conn.extensions:
            self.scope["extensions"][DIRECT] = self  # type: ignore[assignment]

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept":
            self.request = self.response = None  # type: ignore[assignment]
            if self.opening is not None:
                self.opening.set()
                self.opening = None
            if self.leaving:
                self.send_away()
        elif self.close_timer is not None:
            self._block()
            # uvicorn's timer calls `close()`, which waits for the buffer of a client that may never read.
            self.close_timer.cancel()
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)
            if self.unparsed and not self.read_paused:
                # The application takes nothing more, and uvicorn goes on reading. Only a turn goes on with what is
                # held.
                self.transport.pause_reading()
                self._ask_for_turn()

    async def receive(self) -> Any:
        self.handled = 0
        if self.held:
            self._count_held()
        event = await super().receive()
        self.handled, self.queued = self.queued, 0
        if self.unparsed and not self.read_paused:
            self.transport.pause_reading()
            self._ask_for_turn()
        return event

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if not self.handshake_initiated:
            super().data_received(data)  # It is the whole handshake, handed on by the HTTP protocol.
        elif self.unparsed:
            self.unparsed += data
            self._count_held()
        elif len(data) <= SLICE_BYTES and self.turns.has_time():
            began = perf_counter()
            super().data_received(data)
            self.turns.note(perf_counter() - began)
            self._count_held()
        else:
            self.unparsed = data
            self.transport.pause_reading()
            self._ask_for_turn()
            self._count_held()  # A thousand connections may be read before the first of them has its turn.

    def _count_held(self) -> None:
        """Counts what came of a message that is not complete, and messages that the application has not done with; cuts
        the connection where everybody's is too much."""
        held = len(self.conn.reader.buffer) + len(self.unparsed) + sum(map(len, self.frames))
        held += self.queued + self.handled
        if (held > FREE_BYTES or self.held) and self.held_bytes is not None:
            before, self.held = self.held, held
            if not self.held_bytes.change(before, held):
                self.abort()

    def _ask_for_turn(self, *, rest: bool = False) -> None:
        host = self.client[0] if self.client else None
        # The connections of a trusted proxy belong to many clients, so each takes turns by itself.
        behind_proxy = self.admission is not None and self.admission.trusts(host)
        self.turns.ask(self if behind_proxy else host, self._parse_more, rest=rest)

    def _parse_more(self) -> None:
        """Parses what was read, slice by slice, as long as there is time and until there is something for the
        application."""
        data, start = self.unparsed, 0
        until = perf_counter() + ROUND_SECONDS - self.turns.spent_seconds
        while start < len(data):
            if self.disconnected:
                return
            piece, start = data[start : start + SLICE_BYTES], start + SLICE_BYTES
            try:
                super().data_received(piece)
            except Exception:
                # This is a defect. uvloop closes the transport only if it has called `data_received` itself; an error
                # in this callback would only be logged.
                logger.exception("a WebSocket's bytes could not be handled; it is cut")
                self.abort()
                return
            if self.read_paused or self.transport.is_closing() or perf_counter() > until:
                break
        self.unparsed = data[start:]
        self._count_held()
        if self.read_paused or self.transport.is_closing():
            return  # `receive` goes on.
        if self.unparsed:
            self._ask_for_turn(rest=True)
        else:
            self.transport.resume_reading()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text":
            # Checked here, since uvicorn would write a traceback for each such message.
            text = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
            try:
                text.decode()
            except UnicodeDecodeError:
                self.frames = []
                # If a close frame followed in the same read, it has been parsed already, and is answered instead.
                if self.conn.state is State.OPEN:
                    self.conn.send_close(1007)
                    self.handle_parser_exception()
                return
            self.frames = [text]
        self.queued = sum(map(len, self.frames))
        self.turns.note(self.queued * BODY_BYTE_SECONDS)
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        answer = b"".join(self.conn.data_to_send())
        if self.paused_since is None:
            self.transport.write(answer)
        else:
            # A client that pings without reading must not fill the buffer. Only the newest ping has to be answered
            # (RFC 6455, section 5.5.3), and this can wait until there is room.
            self.pong_owed = answer[-PONG_BYTES_MAX:]

    def handle_pong(self, event: Frame) -> None:
        """Does nothing: any bytes that come are a sign of life; see `data_received`."""

    def eof_received(self) -> None:
        self._block()

    def handle_close(self, event: Frame) -> None:
        self._block()
        super().handle_close(event)

    def handle_parser_exception(self) -> None:
        self._block()
        super().handle_parser_exception()

    def shutdown(self) -> None:
        self._block()
        super().shutdown()

    def handle_cont(self, event: Frame) -> None:
        # The length of a message is bounded, the number of its fragments is not.
        if len(self.frames) >= FRAGMENTS_MAX:
            self.frames = [b"".join(self.frames)]
        super().handle_cont(event)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.paused_since = self.loop.time()
        self._block()

    def resume_writing(self) -> None:
        self.paused_since = None
        super().resume_writing()
        answer, self.pong_owed = self.pong_owed, None
        if answer is not None and self.conn.state is State.OPEN and not self.close_sent:
            self.transport.write(answer)

    # -- used by `Keepalive` -----------------------------------------------------------------------------------

    def abort(self) -> None:
        """Cuts the connection without waiting for its buffer. The client sees 1006 and may come again."""
        self.transport.abort()

    def send_away(self) -> None:
        """Closes with 1012 (service restart), unless it is closing already. Clients then connect again.

        A connection that is not accepted yet is closed as soon as it is accepted.
        """
        self.leaving = True
        if self.conn.state is State.OPEN and not self.close_sent and not self.transport.is_closing():
            self._block()
            self.queue.put_nowait({"type": "websocket.disconnect", "code": 1012})
            self.conn.send_close(1012, "Service restart")
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
            self.close_timer = self.loop.call_later(self.close_timeout, self.transport.abort)

    def ping(self) -> None:
        """Sends a ping. Any bytes that come from now on count as its answer."""
        self.heard = False
        self.conn.send_ping(b"")
        self.transport.write(b"".join(self.conn.data_to_send()))
