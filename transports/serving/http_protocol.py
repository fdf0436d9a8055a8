"""uvicorn's HTTP protocol with what it lacks against hostile clients: deadlines, a bound on headers, admission.

uvicorn 0.54 waits for ever for the first request, for the rest of a request, and for a client to take its answer.
`Keepalive` checks the deadlines once a second for all connections: a request costs two comparisons and no timer.
"""

import asyncio
from collections.abc import Hashable
from http import HTTPStatus
from typing import Any

from transports.gate.admission import WAITING_TO_HEAR_MAX, Admission
from transports.serving.http_reader import HttpReader

HEADERS_SECONDS = 10.0
"""From the connection, or a request's first byte, to the end of its headers."""
REQUEST_SECONDS = 60.0
"""From the same moment to the end of the body: enough for 1 MiB at 150 kbit/s."""
LINGER_SECONDS = 2.0
"""How long a client that was turned away has to read why. If the connection were closed at once, with the request half
read, it would be reset and the answer would be lost."""
_HEALTH = (b"GET /healthz ", b"GET /readyz ", b"GET /metrics ")


class HttpProtocol(HttpReader):
    """One HTTP connection. Pass it as uvicorn's `http=`, `admission` bound by `functools.partial`."""

    def __init__(
        self,
        *args: Any,
        admission: Admission | None = None,
        headers_seconds: float = HEADERS_SECONDS,
        request_seconds: float = REQUEST_SECONDS,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._admission = admission
        self._headers_seconds = headers_seconds
        self._request_seconds = request_seconds
        self._refusal: tuple[int, str] | None = None
        self._entered = False
        self._paused_since: float | None = None

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
            self._last_request = True
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
        if self._refusal is not None and not self._turned_away and not data.startswith(_HEALTH):
            self._turn_away(*self._refusal)
        else:
            super().data_received(data)

    def _taking_turns_as(self) -> Hashable:
        host = self.client[0] if self.client else None
        # The connections of a trusted proxy belong to many clients, so each takes turns by itself.
        return self if self._admission is not None and self._admission.trusts(host) else host

    def handle_websocket_upgrade(self) -> None:
        if self._refusal is not None:
            # It was let through because it began with a health check, and was not counted. As a WebSocket it would be
            # counted as one that leaves.
            self._turn_away(*self._refusal)
            return
        super().handle_websocket_upgrade()
        if self.parser is None:
            # The connection belongs to the WebSocket now, which stops counting it when it ends.
            protocol: Any = self.transport.get_protocol()
            protocol.admission = self._admission
            protocol.held_bytes = self._held_bytes

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
            # Before it closes, the transport waits for its buffer to drain, which may never happen.
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

    def close_if_idle(self, now: float) -> None:
        """Ends the connection when it has been kept for its next request for long enough (`timeout_keep_alive`)."""
        if self._idle_since is not None and now - self._idle_since > self.timeout_keep_alive:
            self.transport.close()

    def _turn_away(self, status: int, text: str) -> None:
        """Answers, reads no further, and gives the client a moment to read why."""
        if self._turned_away or self.transport.is_closing():
            return
        self._turned_away = True
        self._forget_unread()
        self._drop_body()
        self.flow.resume_reading()  # Otherwise the end of the connection would not be noticed.
        self._waiting_since = self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete:
            if self.cycle.response_started:
                # An answer is being sent: another one must not be put between its bytes.
                self.transport.abort()
                return
            self.cycle.disconnected = True
            self.cycle.message_event.set()
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
