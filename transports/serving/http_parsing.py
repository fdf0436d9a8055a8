"""Makes requests of what is read of one HTTP connection: their heads, their bodies and bounds, and upgrades.

`HttpReader` hands over pieces that end no later than their request does.
"""

import asyncio
from typing import Any, cast
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from transports.serving.held_bytes import HeldBytes
from transports.serving.http_cycle import Cycle, ExpectingCycle
from transports.serving.known_heads import KnownHead, known_heads_of, without_length
from transports.serving.request_head import JUDGED_HEADERS, head_refusal, head_without
from transports.serving.turns import (
    BODY_BYTE_SECONDS,
    HANDSHAKE_SECONDS,
    REQUEST_SECONDS,
    URL_BYTE_SECONDS,
    turns_of,
)

HEADERS_BYTES_MAX = 64 * 1024
"""Request line and headers of one request. Browsers send less than 16 KiB; the URL of a GET holds its variables."""
HEADERS_MAX = 256
"""Headers of one request. A short one takes 25 times its length in memory, so their number has a bound of its own."""
CHUNKING_BYTES_MAX = 16 * 1024
"""What a chunked body may hold besides its data: extensions of chunks, trailers. 16 bytes of each chunk are not
counted, nor twice the length of the data."""


class HttpParsing(HttpToolsProtocol):
    """The request that is being read on a connection, one at a time, as the parser reports it."""

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
        self._turned_away = False
        self._waiting_since: float | None = None
        """Loop time at which the request began that is not complete; None while none is under way."""
        self._idle_since: float | None = None
        self._turns = turns_of(self.server_state)
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
        self._framing: list[tuple[bytes, bytes]] = []
        """Those headers of the request by which `head_refusal` judges it."""
        self._known_heads = known_heads_of(self.server_state)
        self._new_head: bytes | None = None
        """The head that the parser is given, without its length, if it came whole and is not known yet."""
        self._recalled = False
        """The head of the request was known, so the parser gets nothing of this request."""

    # -- what the derived classes do -------------------------------------------------------------------------------

    def _turn_away(self, status: int, text: str) -> None:
        raise NotImplementedError

    def read_on(self, *, rest: bool = False) -> None:
        raise NotImplementedError

    def _forget_unread(self) -> None:
        raise NotImplementedError

    # -- what the parser is given ----------------------------------------------------------------------------------

    def _drop_body(self) -> None:
        if self._body_held:
            self._held_bytes.change(self._body_held, 0)
            self._body_held = 0

    def _feed(self, piece: bytes) -> None:
        """Parses a piece that ends no later than its request. It is counted before, since the parser keeps what is not
        complete and does not tell how much that is."""
        if self._recalled:
            self._take_body(piece)
            return
        if not self._in_body:
            if not self._headers_bytes:
                # Browsers connect before they have a request, so the time counts from its first byte.
                self._waiting_since = self.loop.time()
                self._idle_since = None
                self._new_head = None
                if piece.endswith(b"\r\n\r\n") and self._recall(piece):
                    return
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

    # -- requests whose heads are known ------------------------------------------------------------------------------

    def _recall(self, piece: bytes) -> bool:
        """Begins the request with this head, if it is known. If it is not, the parser may make it known."""
        parts = without_length(piece)
        if parts is None:
            return False
        key, length = parts
        head = self._known_heads.find(key)
        if head is None:
            self._new_head = key
            return False
        self.on_message_begin()
        self._recalled = True
        self._body_left = int(length or b"0")
        head.write_to(cast(dict[str, Any], self.scope), length)
        self._begin(keep_alive=True)
        if not self._body_left:
            self.on_message_complete()
        return True

    def _take_body(self, piece: bytes) -> None:
        self.on_body(piece)
        if not self._body_left:
            self.on_message_complete()

    # -- what the parser finds -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._turned_away:
            return
        super().on_message_begin()
        self._begun = True
        self._body_left = None
        self._chunking_bytes = 0
        self._framing = []

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:
            return  # It is a trailer, which must not be taken for a header (RFC 9110 section 6.5.1).
        name = name.lower()
        if name == b"content-length":
            self._body_left = int(value)
        elif name in JUDGED_HEADERS:
            self._framing.append((name, value))
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
        refusal = head_refusal(self._framing)
        if refusal is not None:
            self._turn_away(*refusal)
            return
        # The round is under way: who gave the bytes to the parser notes what that took, and so begins the next one.
        self._turns.spent_seconds += len(self.url) * URL_BYTE_SECONDS
        if parser.should_upgrade():
            self._turns.spent_seconds += HANDSHAKE_SECONDS
            return  # `_upgrade` follows.
        url = httptools.parse_url(self.url)
        raw_path = url.path or b"/"
        path = raw_path.decode("ascii")
        scope["path"] = self.root_path + (unquote(path) if "%" in path else path)
        scope["raw_path"] = self.root_path.encode("ascii") + raw_path
        scope["query_string"] = url.query or b""
        expects = self.expect_100_continue and version == "1.1"
        keep_alive = version == "1.1" and parser.should_keep_alive()
        coded = any(name == b"transfer-encoding" for name, _ in self._framing)
        if self._new_head is not None and keep_alive and not expects and not coded and url.query is None:
            self._known_heads.keep(self._new_head, KnownHead.of(cast(dict[str, Any], scope)))
        self._begin(keep_alive=keep_alive, expects=expects)

    def _begin(self, *, keep_alive: bool, expects: bool = False) -> None:
        """Starts the application for the request, whose scope is complete."""
        self._in_body = True
        self._turns.spent_seconds += REQUEST_SECONDS
        cycle = (ExpectingCycle if expects else Cycle)(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=expects,
            keep_alive=keep_alive and not self._last_request,
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
            before = self._body_held
            self._body_held = held = before + len(body)
            if not self._held_bytes.change(before, held):
                self._turn_away(503, "This server holds as much as it may of requests that are not complete.")

    def on_message_complete(self) -> None:
        if self._turned_away:
            return
        if self._in_body:
            cycle = self.cycle
            if cycle is not None and not cycle.response_complete:
                cycle.more_body = False
                if not self._recalled and not self.parser.should_keep_alive():
                    cycle.keep_alive = False  # A trailer says so, and the parser takes nothing more.
                cycle.half_closed = self._eof
                cycle.message_event.set()
                self._turns.spent_seconds += self._body_held * BODY_BYTE_SECONDS
            else:
                self._idle_since = self.loop.time()
        self._waiting_since = None
        self._headers_bytes = 0
        self._begun = self._in_body = self._recalled = False

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._drop_body()
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
            head = head_without(b"upgrade", self.scope["method"], self.url, self.scope["http_version"], self.headers)
            self._new_head = None  # What the new parser finds does not belong to the bytes that came.
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
