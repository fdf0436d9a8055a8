"""How requests are read from one HTTP connection: one at a time, in bounded pieces, and none before its turn.

uvicorn 0.54 begins every request that a client has sent in advance: 32 MB of the shortest ones took 2.4 GB, and when
the client went, a cycle of references was left. Here what follows a request stays bytes until that request is answered;
at most one read of the transport is held.
"""

import asyncio
import logging
from collections.abc import Hashable
from time import perf_counter
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from transports.serving.held_bytes import HeldBytes
from transports.serving.http_cycle import Cycle, ExpectingCycle
from transports.serving.turns import BODY_BYTE_SECONDS, REQUEST_SECONDS, ROUND_SECONDS, URL_BYTE_SECONDS, turns_of

logger = logging.getLogger(__name__)

HEADERS_BYTES_MAX = 64 * 1024
"""Request line and headers of one request. Browsers send less than 16 KiB; the URL of a GET holds its variables."""
HEADERS_MAX = 256
"""Headers of one request. A short one takes 25 times its length in memory, so their number has a bound of its own."""
CHUNKING_BYTES_MAX = 16 * 1024
"""What a chunked body may hold besides its data: extensions of chunks, trailers. 16 bytes of each chunk are not
counted, nor twice the length of the data."""
SLICE_BYTES = 2 * 1024
"""How much of one connection is parsed between two looks at the clock, unless it is a body of known length."""
DEAF_SECONDS = 0.05
"""Pause after each read of what a client still sends after it was turned away."""
_END = b"\r\n\r\n"
"""What ends the headers of a request, and the trailers of a chunked body."""


class HttpReader(HttpToolsProtocol):
    """The reading half of an `HttpProtocol`. The derived class says what happens to a request that is refused."""

    cycle: Cycle | None  # type: ignore[assignment]

    def __init__(
        self,
        *args: Any,
        headers_bytes_max: int = HEADERS_BYTES_MAX,
        held_bytes: HeldBytes | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._headers_bytes_max = headers_bytes_max
        self._held_bytes = HeldBytes() if held_bytes is None else held_bytes
        self._body_held = 0
        self._unread_held = 0
        self._turned_away = False
        self._waiting_since: float | None = None
        """Loop time at which the request began that is not complete; None while none is under way."""
        self._idle_since: float | None = None
        self._unread = b""
        self._unread_from = 0
        self._turns = turns_of(self.server_state)
        self._turn_asked = False
        self._eof = False
        self._last_request = False
        """The answer to the next request ends the connection."""
        self._begun = False
        """The first line of a request has begun."""
        self._headers_bytes = 0
        self._seen = b""
        """The last bytes that were parsed, if the end of the headers or of a chunked body may have begun in them."""
        self._in_body = False
        self._body_left: int | None = None
        """Bytes of the body that are still to come. None if only the body itself tells where it ends."""
        self._chunking_bytes = 0

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_unread()
        self._hold_body(0)
        if self.cycle is not None:
            self.cycle.connection = None
            self.cycle = None

    def eof_received(self) -> bool:  # type: ignore[override]
        """Whether the connection stays open for answers that the client still has to get (RFC 9112 section 9.6)."""
        self._eof = True
        if self._turned_away or self.parser is None:
            return False
        return self._owes_answer()

    def _owes_answer(self) -> bool:
        """Whether a client that will send nothing more still has to get an answer. The last answer closes the
        connection."""
        cycle = self.cycle
        waits = cycle is not None and not cycle.response_complete and not cycle.more_body
        if cycle is not None and waits:
            cycle.half_close()
            cycle.keep_alive = bool(self._unread) and cycle.keep_alive
        return waits or bool(self._unread)

    def _turn_away(self, status: int, text: str) -> None:
        raise NotImplementedError

    # -- reading -------------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._turned_away:
            if len(data) > SLICE_BYTES:
                # It sends more than the rest of its request. libuv would read 8 MB of that in one step.
                self.flow.pause_reading()
                self.loop.call_later(DEAF_SECONDS, self.flow.resume_reading)
            return
        if self._unread:
            # The transport is paused where more than a slice is held, so this copies little.
            self._keep(self._unread[self._unread_from :] + data, 0)
        elif self._turns.has_time():
            began = perf_counter()
            self._read(data, 0)
            self._turns.note(perf_counter() - began)
        else:
            self._keep(data, 0)
            self.read_on()

    def read_on(self, *, rest: bool = False) -> None:
        """Goes on with what is held, or lets the transport read, since what was in the way has been taken."""
        if not self._unread:
            if not self._eof:
                self.flow.resume_reading()
        elif not self._turn_asked:
            self._turn_asked = True
            self._turns.ask(self._taking_turns_as(), self._take_turn, rest=rest)

    def _taking_turns_as(self) -> Hashable:
        """The client for whom this connection takes turns."""
        return self.client[0] if self.client else None

    def _take_turn(self) -> None:
        self._turn_asked = False
        data, start = self._unread, self._unread_from
        self._unread, self._unread_from = b"", 0
        if not data or self._turned_away or self.parser is None or self.transport.is_closing():
            return
        try:
            self._read(data, start)
        except Exception:
            # This is a defect. If uvloop had called `_read`, it would close the transport itself.
            logger.exception("what a client has sent could not be handled; its connection is cut")
            self.transport.abort()
            return
        if self._unread or self._turned_away or self.parser is None:
            return
        self._hold_unread(0)
        if not self._eof:
            self.flow.resume_reading()
        elif not self._owes_answer():
            self.transport.close()

    def _read(self, data: bytes, start: int) -> None:
        """Parses up to the end of a request, or for as long as there is time, and keeps the rest."""
        size = len(data)
        slice_end = start + SLICE_BYTES
        began = perf_counter()
        while start < size:
            if self._is_full():
                self._keep(data, start)
                return
            if self._body_left and self._in_body:
                end = min(size, start + self._body_left)
            else:
                if start >= slice_end:
                    if self._turns.spent_seconds + perf_counter() - began > ROUND_SECONDS:
                        self._keep(data, start)
                        self.read_on(rest=True)
                        return
                    slice_end = start + SLICE_BYTES
                end = self._request_end(data, start, min(size, slice_end))
            self._feed(data if end - start == size else data[start:end])
            if self._turned_away:
                return
            if self.parser is None:  # The connection belongs to a WebSocket now.
                self.flow.resume_reading()
                if end < size:
                    self.transport.get_protocol().data_received(data[end:])
                return
            start = end

    def _is_full(self) -> bool:
        """Whether a request must first be answered, or a part of its body be taken, before more is parsed."""
        cycle = self.cycle
        return (
            cycle is not None
            and not cycle.response_complete
            and (not cycle.more_body or len(cycle.body) > HIGH_WATER_LIMIT)
        )

    def _request_end(self, data: bytes, start: int, end: int) -> int:
        """The position after the first place at which a request's headers, or a chunked body, may end; `end` if there
        is none before it."""
        if not self._begun and data.startswith(b"\r\n", start):
            # Empty lines before a request (RFC 9112 section 2.2).
            return end - len(data[start:end].lstrip(b"\r\n"))
        if self._seen:
            # The end may have begun in what was parsed before.
            found = (self._seen + data[start : start + 3]).find(_END)
            if found >= 0:
                return start + found + len(_END) - len(self._seen)
        found = data.find(_END, start, end)
        return end if found < 0 else found + len(_END)

    def _keep(self, data: bytes, start: int) -> None:
        self._unread, self._unread_from = data, start
        # After a short rest reading goes on, so that it is noticed when the client closes the connection.
        if len(data) - start > SLICE_BYTES:
            self.flow.pause_reading()
        if not self._hold_unread(len(data)):
            self.transport.abort()

    def _hold_unread(self, count: int) -> bool:
        before, self._unread_held = self._unread_held, count
        return self._held_bytes.change(before, count)

    def _hold_body(self, count: int) -> bool:
        before, self._body_held = self._body_held, count
        return self._held_bytes.change(before, count)

    def _forget_unread(self) -> None:
        self._unread, self._unread_from = b"", 0
        self._hold_unread(0)

    def _feed(self, piece: bytes) -> None:
        """Parses a piece that ends no later than its request. It is counted before, since the parser keeps what is not
        complete and does not tell how much that is."""
        if not self._in_body:
            if not self._headers_bytes:
                # Browsers connect before they have a request, so the time counts from its first byte.
                self._waiting_since = self.loop.time()
                self._idle_since = None
            self._headers_bytes += len(piece)
            if self._headers_bytes > self._headers_bytes_max:
                self._turn_away(431, f"The headers must be at most {self._headers_bytes_max} bytes long.")
                return
        elif self._body_left is None:
            self._chunking_bytes += len(piece)
            if self._chunking_bytes - len(piece) > CHUNKING_BYTES_MAX:
                self._turn_away(400, f"A chunked body has more than {CHUNKING_BYTES_MAX} bytes that are no data.")
                return
        try:
            self.parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self._upgrade()
        except httptools.HttpParserError:
            self._turn_away(400, "Invalid HTTP request received.")
        if self._headers_bytes and not (self._in_body and self._body_left is not None):
            self._seen = (self._seen + piece[-3:])[-3:]
        else:
            self._seen = b""

    # -- what the parser finds -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._turned_away:
            return
        super().on_message_begin()
        self._begun = True
        self._body_left = None
        self._chunking_bytes = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # It is a trailer, which must not be taken for a header (RFC 9110 section 6.5.1).
        name = name.lower()
        if name == b"content-length":
            self._body_left = int(value)
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))
        if len(self.headers) > HEADERS_MAX:
            self._turn_away(431, f"A request must have at most {HEADERS_MAX} headers.")

    def on_headers_complete(self) -> None:
        if self._turned_away:
            return
        parser, scope = self.parser, self.scope
        scope["method"] = parser.get_method().decode("ascii")
        version = parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                self._turn_away(505, "The version of HTTP must be 1.1 or 1.0.")
                return
            scope["http_version"] = version
        self._turns.note(REQUEST_SECONDS + len(self.url) * URL_BYTE_SECONDS)
        if parser.should_upgrade():
            return  # `_upgrade` follows.
        self._in_body = True
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = url.query or b""
        expects = self.expect_100_continue and version == "1.1"
        cycle = (ExpectingCycle if expects else Cycle)(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expects,
            keep_alive=version == "1.1" and parser.should_keep_alive() and not self._last_request,
            on_response=self.on_response_complete,
        )
        cycle.connection = self
        self.cycle = cycle
        self._start_asgi_task(cycle, self.app)

    def on_body(self, body: bytes) -> None:
        if self._turned_away:
            return
        if self._body_left is None:
            self._chunking_bytes = max(0, self._chunking_bytes - 16 - 3 * len(body))
        else:
            self._body_left -= len(body)
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > HIGH_WATER_LIMIT:
                self.flow.pause_reading()
            cycle.message_event.set()
            if not self._hold_body(self._body_held + len(body)):
                self._turn_away(503, "This server holds as much as it may of requests that are not complete.")

    def on_message_complete(self) -> None:
        if self._turned_away:
            return
        if self._in_body:
            cycle = self.cycle
            if cycle is not None and not cycle.response_complete:
                cycle.more_body = False
                if not self.parser.should_keep_alive():
                    cycle.keep_alive = False  # A trailer says so, and the parser takes nothing more.
                cycle.half_closed = self._eof
                cycle.message_event.set()
                self._turns.note(self._body_held * BODY_BYTE_SECONDS)
            else:
                self._idle_since = self.loop.time()
        self._waiting_since = None
        self._headers_bytes = 0
        self._begun = self._in_body = False

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._hold_body(0)
        if self.cycle is not None:
            self.cycle.connection = None
        if not self.transport.is_closing():
            if not self._in_body:
                self._idle_since = self.loop.time()
            self.read_on()

    # -- upgrades ------------------------------------------------------------------------------------------------

    def _upgrade(self) -> None:
        """A request asks for another protocol: a WebSocket, or one that this server does not have and ignores."""
        if self._turned_away:
            return
        if self.scope["method"] == "CONNECT":
            self._turn_away(501, "This server is no proxy.")
        elif self.scope["http_version"] == "1.0" or not self._should_upgrade():
            # This parser takes all that follows, even a body, for the other protocol. A new parser, which does not see
            # the header, does not. Java's HTTP client asks for h2c in every first request, also in a POST.
            head = self._head_without(b"upgrade")
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._headers_bytes = len(head)
            self._waiting_since = self.loop.time()
            try:
                self.parser.feed_data(head)
            except httptools.HttpParserError:
                self._turn_away(400, "Invalid HTTP request received.")
        elif self._body_left or any(name == b"transfer-encoding" for name, _ in self.headers):
            self._turn_away(400, "A request for a WebSocket must have no body.")
        else:
            self.handle_websocket_upgrade()

    def _head_without(self, left_out: bytes) -> bytes:
        """The request's head without one of its headers."""
        lines = [b"%b %b HTTP/%b" % (self.scope["method"].encode(), self.url, self.scope["http_version"].encode())]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != left_out]
        return b"\r\n".join([*lines, b"", b""])

    def handle_websocket_upgrade(self) -> None:
        super().handle_websocket_upgrade()
        protocol: Any = self.transport.get_protocol()
        if protocol is self:
            return
        if not protocol.handshake_initiated:
            # The WebSocket's parser refuses something that this one accepts, and would never answer.
            self.connections.discard(protocol)
            self.connections.add(self)
            self.transport.set_protocol(self)
            self._turn_away(400, "This is no request for a WebSocket.")
            return
        self.parser = None  # type: ignore[assignment]  # Breaks a cycle of references.
        # From now on the WebSocket counts what comes, and this protocol is not told when the connection ends.
        self._forget_unread()
