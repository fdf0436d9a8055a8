"""One request and its answer: uvicorn's cycle, which goes on after the client has closed its sending side."""

from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


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
    """

    connection: Connection | None
    """The connection of the request. None once that is answered or lost, so that there is no cycle of references."""
    body_taken: bool = False
    """The application has been given the last of the body."""
    half_closed: bool = False

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


class ExpectingCycle(Cycle):
    """A request whose client waits for `100 Continue` before it sends the body.

    If it is answered without that, it may still send the body; or it may leave the body out and send its next request,
    which would then be read as the body. So such an answer ends the connection (RFC 9110 section 10.1.1).
    """

    async def send(self, message: Any) -> None:
        if self.waiting_for_100_continue and self.more_body:
            self.keep_alive = False
        await super().send(message)
