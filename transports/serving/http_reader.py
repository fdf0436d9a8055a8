"""How requests are read from one HTTP connection: one at a time, in bounded pieces, and none before its turn.

uvicorn 0.54 begins every request that a client has sent in advance: 32 MB of the shortest ones took 2.4 GB, and when
the client went, a cycle of references was left. Here what follows a request stays bytes until that request is answered;
at most one read of the transport is held.
"""

import logging
from collections.abc import Hashable
from time import perf_counter
from typing import Any

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from transports.serving.http_cycle import Cycle
from transports.serving.http_parsing import HttpParsing
from transports.serving.turns import ROUND_SECONDS

logger = logging.getLogger(__name__)

SLICE_BYTES = 2 * 1024
"""How much of one connection is parsed between two looks at the clock, unless it is a body of known length."""
DEAF_SECONDS = 0.05
"""Pause after each read of what a client still sends after it was turned away."""
_END = b"\r\n\r\n"
"""What ends the headers of a request, and the trailers of a chunked body."""


class HttpReader(HttpParsing):
    """The reading half of an `HttpProtocol`. The derived class says what happens to a request that is refused."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unread = b""
        self._unread_from = 0
        self._unread_held = 0
        self._turn_asked = False

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._forget_unread()
        self._drop_body()
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
        elif self._turns.spent_seconds < ROUND_SECONDS:
            began = perf_counter()
            self._read(data, 0, began)
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
            self._read(data, start, perf_counter())
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

    def _read(self, data: bytes, start: int, began: float) -> None:
        """Parses up to the end of a request, or for as long as there is time, and keeps the rest. It began at that
        moment."""
        size = len(data)
        slice_end = start + SLICE_BYTES
        while start < size:
            cycle = self.cycle
            if cycle is not None and not cycle.response_complete and self._is_full(cycle):
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

    @staticmethod
    def _is_full(cycle: Cycle) -> bool:
        """Whether a request that is not answered must be, or a part of its body be taken, before more is parsed."""
        return not cycle.more_body or len(cycle.body) > HIGH_WATER_LIMIT

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

    def _forget_unread(self) -> None:
        self._unread, self._unread_from = b"", 0
        self._hold_unread(0)
