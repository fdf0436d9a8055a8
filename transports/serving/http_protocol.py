"""uvicorn's HTTP protocol with what it lacks against hostile clients: deadlines, a bound on headers, admission.

uvicorn 0.54 waits for ever for the first request, for the rest of a request, and for a client to take its answer, and
takes headers of any length. The deadlines are looked at by `Keepalive`, once a second for all connections: a request
costs two comparisons, no timer.
"""

import asyncio
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from transports.gate.admission import WAITING_TO_HEAR_MAX, Admission

HEADERS_SECONDS = 10.0
"""From the connection, or a request's first byte, to the end of its headers."""
REQUEST_SECONDS = 60.0
"""From the same moment to the end of the body: 1 MiB comes through 150 kbit/s."""
LINGER_SECONDS = 2.0
"""What a client that was turned away gets to read why. Closing at once, with its request half read, would reset the
connection and the answer with it."""
HEADERS_BYTES_MAX = 64 * 1024
"""Request line and headers of one request; browsers send below 16 KiB, URLs carry a GET's variables."""
_HEALTH = (b"GET /healthz ", b"GET /readyz ", b"GET /metrics ")


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection. Pass it as uvicorn's `http=`, `admission` bound by `functools.partial`."""

    def __init__(
        self,
        *args: Any,
        admission: Admission | None = None,
        headers_bytes_max: int = HEADERS_BYTES_MAX,
        headers_seconds: float = HEADERS_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._admission = admission
        self._headers_bytes_max = headers_bytes_max
        self._headers_seconds = headers_seconds
        self._request_seconds = request_seconds
        self._refusal: tuple[int, str] | None = None
        self._entered = False
        self._turned_away = False
        self._waiting_since: float | None = None
        self._paused_since: float | None = None
        self._headers_bytes = 0
        self._in_body = False

    # -- uvicorn's hooks ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        admission = self._admission
        if admission is None:
            return
        self._refusal = admission.enter(self.client[0] if self.client else None)
        self._entered = self._refusal is None
        if self._refusal is not None:
            admission.waiting_to_hear += 1
            if admission.waiting_to_hear > WAITING_TO_HEAR_MAX:
                transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._admission is not None:
            if self._entered:
                self._admission.leave(self.client[0] if self.client else None)
            else:
                self._admission.waiting_to_hear -= 1

    def data_received(self, data: bytes) -> None:
        if self._turned_away:
            return
        if self._waiting_since is None or not self._headers_bytes:
            # Browsers connect before they have something to ask.
            self._waiting_since = self.loop.time()
        if self._refusal is not None and not data.startswith(_HEALTH):
            self._turn_away(*self._refusal)
            return
        if not self._in_body:
            self._headers_bytes += len(data)
        super().data_received(data)
        # What is not complete yet is kept by the parser, out of sight.
        if not self._in_body and self._waiting_since is not None and self._headers_bytes > self._headers_bytes_max:
            self._turn_away(431, f"The headers must be at most {self._headers_bytes_max} bytes long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._waiting_since is None:
            self._waiting_since = self.loop.time()

    def on_headers_complete(self) -> None:
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > self._headers_bytes_max:
            self._turn_away(431, f"The headers must be at most {self._headers_bytes_max} bytes long.")
        if self._turned_away:
            return
        self._in_body = True
        super().on_headers_complete()
        if self._refusal is not None and self.cycle is not None:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if not self._turned_away:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._turned_away:
            super().on_message_complete()
        self._waiting_since = None
        self._headers_bytes = 0
        self._in_body = False

    def handle_websocket_upgrade(self) -> None:
        if self._turned_away:
            return
        super().handle_websocket_upgrade()
        protocol: Any = self.transport.get_protocol()
        if protocol is self:
            return
        self.parser = None  # type: ignore[assignment]  # A cycle, which only a collection would find.
        if self._admission is not None:
            # It is the WebSocket's now, which counts it out.
            protocol.admission = self._admission

    def send_400_response(self, msg: str) -> None:
        self._turn_away(400, msg)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._paused_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._paused_since = None

    # -- used by `Keepalive` -----------------------------------------------------------------------------------

    def look(self, now: float, slow_timeout_seconds: float) -> None:
        """Ends the connection when its client is overdue at loop time `now`."""
        if self._turned_away:
            if self._waiting_since is None or now - self._waiting_since > LINGER_SECONDS:
                self.transport.abort()
        elif self._paused_since is not None:
            if now - self._paused_since > slow_timeout_seconds:
                self.transport.abort()
        elif self.transport.is_closing():
            # Closing waits for a buffer that may never drain.
            if self._waiting_since is None:
                self._waiting_since = now
            elif now - self._waiting_since > slow_timeout_seconds:
                self.transport.abort()
        elif self._waiting_since is not None:
            waited = now - self._waiting_since
            if self._in_body:
                if waited > self._request_seconds:
                    self.transport.abort()
            elif waited > (LINGER_SECONDS if self._refusal is not None else self._headers_seconds):
                if not self._headers_bytes:
                    self.transport.close()
                elif self._refusal is None:
                    self._turn_away(408, "The request did not come in time.")
                else:
                    self._turn_away(*self._refusal)

    def _turn_away(self, status: int, text: str) -> None:
        """Answers, reads nothing more, and gives the client a moment to read why."""
        if self._turned_away or self.transport.is_closing():
            return
        self._turned_away = True
        self._unset_keepalive_if_required()
        self._waiting_since = self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete:
            # The answer before this one is still on its way: another may not be put between its bytes.
            self.transport.abort()
            return
        body = text.encode()
        head = [
            f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
            "content-type: text/plain; charset=utf-8",
            f"content-length: {len(body)}",
            "connection: close",
        ]
        if status in (429, 503):
            head.append("retry-after: 1")
        self.transport.write("\r\n".join([*head, "", ""]).encode() + body)
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()
