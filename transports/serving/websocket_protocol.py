"""uvicorn's WebSocket protocol, made lean, with a way to write frames in one step and a keepalive that knows slowness.

What differs from `WebSocketsSansIOProtocol` (uvicorn 0.54), and why:

- `write_frames`, `drained` and `claim`, offered through the ASGI scope's `extensions`: a fan-out to thousands of
  sockets with the check for room and the write in the same step, or with no check where it is known that there is room.
- `Keepalive` pings, and cuts who takes nothing. uvicorn's own pings wait behind the buffered bytes and end a slow but
  reading client with 1011, which graphql-ws clients treat as fatal; its `close()` waits for a buffer that may never
  drain. Here a cut is an abort: the client sees 1006, reconnects and resumes.
- The kernel keeps little unsent per socket (`limit_unsent`). Without it a client that does not read holds 4 MB there.
- Memory: `__slots__` that name uvicorn's attributes too, a queue and a gate of few words, request and response dropped
  once the handshake is over.
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
from transports.serving.turns import ROUND_SECONDS, turns_of
from transports.wire.sinks import DIRECT

logger = logging.getLogger(__name__)

FRAGMENTS_MAX = 256
"""Fragments of a message that are kept apart; then they are joined, so that empty ones weigh nothing."""
PONG_BYTES_MAX = 127
SLICE_BYTES = 2 * 1024
"""What is parsed of one connection before the clock is looked at: 340 of the shortest frames."""


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
        self.paused_since = None
        self.pong_owed: bytes | None = None
        self.unparsed = b""
        self.holders: tuple[Holder, ...] = ()
        self.leaving = False
        self.opening: Gate | None = None
        self.heard = True
        # Connections that came together are pinged apart.
        self.beat = randrange(-8, 8)

    # -- the direct way out ------------------------------------------------------------------------------------

    def write_frames(self, data: bytes) -> bool:
        """Writes complete, unmasked frames in this loop step and returns True, or writes nothing and returns False.

        False: the buffer is above its high-water mark, or the connection is not open (any more). Never raises.
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
        """The bare write, until `holder` is told that it is blocked or releases it; None when it is blocked now."""
        if not self._takes_frames():
            return None
        self.holders = (*self.holders, holder)
        return self.transport.write

    def release(self, holder: Holder) -> None:
        """Ends the claim of `holder`, which is not told."""
        self.holders = tuple(other for other in self.holders if other is not holder)

    def _block(self) -> None:
        """Ends all claims. Called in the step in which the buffer is full or a close frame is written: a transport that
        is closed with bytes in its buffer still takes more. What is written to one that was lost is dropped."""
        holders, self.holders = self.holders, ()
        for holder in holders:
            holder.blocked()

    async def drained(self) -> None:
        """Returns once the buffer is below its low-water mark; never on a connection that is gone.

        Where the handshake is not answered yet, it waits for that first.
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
        # uvicorn says 1005, which is a close frame without a code. Where a close frame came, it was told before this.
        self.queue.put_nowait({"type": "websocket.disconnect", "code": 1006})
        super().connection_lost(exc)
        if self.admission is not None:
            self.admission.leave(self.client[0] if self.client else None)
        if self.held_bytes is not None:
            self.held_bytes.change(self.held, 0)
            self.held_bytes = None  # A turn that was asked for may still come.
        scope = getattr(self, "scope", None)
        if scope is not None:
            scope["extensions"].pop(DIRECT, None)  # Breaks a cycle, so that memory returns without a collection,
        self.conn.parser.close()  # and another one: a suspended generator that holds its own owner.

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        # Frames cannot be shared where each connection compresses its own.
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
                # The application takes nothing more, and uvicorn reads on: nobody else would go on with what is held.
                self.transport.pause_reading()
                self._ask_for_turn()

    async def receive(self) -> Any:
        event = await super().receive()
        if self.unparsed and not self.read_paused:
            self.transport.pause_reading()
            self._ask_for_turn()
        return event

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if not self.handshake_initiated:
            super().data_received(data)  # The handshake, which HTTP's protocol hands on whole.
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
        """Counts what came of a message that is not complete; cuts the connection where everybody's is too much."""
        held = len(self.conn.reader.buffer) + len(self.unparsed) + sum(map(len, self.frames))
        if (held > FREE_BYTES or self.held) and self.held_bytes is not None:
            before, self.held = self.held, held
            if not self.held_bytes.change(before, held):
                self.abort()

    def _ask_for_turn(self, *, rest: bool = False) -> None:
        host = self.client[0] if self.client else None
        # A trusted proxy's connections are many clients'.
        behind_proxy = self.admission is not None and self.admission.trusts(host)
        self.turns.ask(self if behind_proxy else host, self._parse_more, rest=rest)

    def _parse_more(self) -> None:
        """Parses what was read in one piece, slice by slice, for as long as there is time and until the application has
        something to take."""
        data, start = self.unparsed, 0
        until = perf_counter() + ROUND_SECONDS - self.turns.spent_seconds
        while start < len(data):
            if self.disconnected:
                return
            piece, start = data[start : start + SLICE_BYTES], start + SLICE_BYTES
            try:
                super().data_received(piece)
            except Exception:
                # A defect. uvloop closes the transport where it has called this itself; a callback is only logged.
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
            # uvicorn would find it out, and write a traceback for each.
            text = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
            try:
                text.decode()
            except UnicodeDecodeError:
                self.frames = []
                # A close frame behind it, in the same read, has been parsed already: then that is the answer.
                if self.conn.state is State.OPEN:
                    self.conn.send_close(1007)
                    self.handle_parser_exception()
                return
            self.frames = [text]
        super().send_receive_event_to_app()

    def handle_ping(self) -> None:
        answer = b"".join(self.conn.data_to_send())
        if self.paused_since is None:
            self.transport.write(answer)
        else:
            # Whoever pings without reading must not fill the buffer. Only the newest ping need be answered
            # (RFC 6455, section 5.5.3), and that can wait until there is room.
            self.pong_owed = answer[-PONG_BYTES_MAX:]

    def handle_pong(self, event: Frame) -> None:
        """Whatever is heard is a sign of life; see `data_received`."""

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
        """Closes with 1012 (service restart), which clients answer by coming again, unless it is closing already.

        A connection that is not accepted yet is closed as soon as it is.
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
        """Sends a ping; what is heard from now on answers it."""
        self.heard = False
        self.conn.send_ping(b"")
        self.transport.write(b"".join(self.conn.data_to_send()))
