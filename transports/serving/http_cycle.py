"""One request and its answer: uvicorn's cycle, which goes on after the client has closed its sending side."""

import re
from functools import lru_cache
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What the name of a header may be (RFC 9110 section 5.6.2)."""
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
"""What its value may be: no control characters, and above all no line ends."""


class Connection(Protocol):
    """What a cycle knows of the connection that its request came on."""

    def read_on(self) -> None:
        """What has come of the body was taken: goes on with what is held, or lets the transport read."""


class Cycle(RequestResponseCycle):
    """What differs from uvicorn's `RequestResponseCycle` (0.54), and why:

    - A client that half-closes after a whole request gets its answer (RFC 9112 section 9.6). If the answer has no known
      length, like an event stream, the client counts as gone: it cannot be told from one that is.
    - When a body is taken, the connection first reads on from what it holds already; uvicorn would only resume its
      transport.
    - If the length of an answer is known and its body comes whole, head and body are written together. Two writes would
      be two system calls and two packets. Each header is checked and written out once for many answers.
    - `send` waits for a slow client after it has written a part of a stream, and not before it writes the next one. So
      whoever sends can still change what comes next.
    """

    connection: Connection | None
    """The connection of the request. None once that is answered or lost, so that there is no cycle of references."""
    body_taken: bool = False
    """The application has been given the last of the body."""
    half_closed: bool = False
    _head: bytes | None = None
    """The head of the answer, while it waits for the first part of the body."""

    async def receive(self) -> Any:
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self._is_over():
            if self.connection is not None:
                self.connection.read_on()
            await self.message_event.wait()
            self.message_event.clear()
        if self._is_over():
            return {"type": "http.disconnect"}
        event = {"type": "http.request", "body": bytes(self.body), "more_body": self.more_body}
        self.body = bytearray()
        self.body_taken = not self.more_body
        return event

    def _is_over(self) -> bool:
        if self.disconnected or self.response_complete:
            return True
        return self.half_closed and self.body_taken and bool(self.chunked_encoding)

    def half_close(self) -> None:
        """The client has closed its sending side. This request is complete; others may be held behind it."""
        self.half_closed = True
        self.message_event.set()

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        kind, head = message["type"], self._head
        if self.disconnected or self.response_complete:
            pass  # uvicorn drops what is for a client that has gone, and refuses what comes after the end.
        elif not self.response_started:
            if kind == "http.response.start" and (begun := self._plain_head(message)) is not None:
                self.response_started = True
                self.waiting_for_100_continue = False
                self._head = begun
                return
        elif head is not None and kind == "http.response.body" and not message.get("more_body", False):
            body = message.get("body", b"")
            if len(body) == self.expected_content_length:
                self._head = None
                self.expected_content_length = 0
                self.transport.write(head + body)
                self.response_complete = True
                self.message_event.set()
                if not self.keep_alive:
                    self.transport.close()
                self.on_response()
                return
        elif self.chunked_encoding and kind == "http.response.body" and message.get("more_body", False):
            if (body := message.get("body", b"")) and self.scope["method"] != "HEAD":
                self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
                if self.flow.write_paused:
                    await self.flow.drain()
            return
        if head is not None:
            self._head = None
            if not self.disconnected:
                self.transport.write(head)
        await super().send(message)

    def _plain_head(self, message: Any) -> bytes | None:
        """The head of an answer that has a length and valid headers. None if uvicorn must make it, or refuse it."""
        if self.access_log or self.scope["method"] == "HEAD":
            return None
        headers = [*self.default_headers, *message.get("headers", ())]
        lines = list(map(_line, map(tuple, headers)))
        named = dict(headers)
        length = named.get(b"content-length")
        connection = named.get(b"connection")
        if not all(lines) or length is None or not length.isdigit() or b"transfer-encoding" in named:
            return None
        if connection is not None:
            if connection != b"close":
                return None
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        self.chunked_encoding = False
        self.expected_content_length = int(length)
        return b"%b%b\r\n" % (STATUS_LINE[message["status"]], b"".join(lines))


@lru_cache(maxsize=256)
def _line(header: tuple[bytes, bytes]) -> bytes:
    """A header as it is sent; nothing if it is not valid. Nearly all headers are the same in every answer."""
    name, value = header
    valid = _NAME.fullmatch(name) and _VALUE.fullmatch(value)
    return b"%b: %b\r\n" % header if valid else b""


class ExpectingCycle(Cycle):
    """A request whose client waits for `100 Continue` before it sends the body.

    If it is answered without that, it may still send the body; or it may leave the body out and send its next request,
    which would then be read as the body. So such an answer ends the connection (RFC 9110 section 10.1.1).
    """

    async def send(self, message: Any) -> None:
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False
        await super().send(message)
