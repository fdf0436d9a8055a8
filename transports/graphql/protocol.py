"""The server's side of graphql-transport-ws as a pure core: a frame in, one action out. No I/O, no clock, no GraphQL.

`connection` does what the actions say and reports the outcome. Only this core knows which ids are live: an operation
that is no longer live gets no frame, however late its work ends.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transports.graphql.frames import (
    CONNECTION_ACK,
    CloseCode,
    Complete,
    ConnectionInit,
    MalformedFrame,
    Ping,
    Pong,
    Subscribe,
    SubscribePayload,
    close_reason,
    complete_frame,
    error_frame,
    next_frame,
    parse_frame,
    pong_frame,
)
from transports.wire.json_codec import decode_json


class Operation:
    """One use of an id, from its `subscribe` to its end; a later use of the same id is another `Operation`.

    `stop` is set by `connection`: it ends the work at once and without a frame. None while there is nothing to stop.
    """

    __slots__ = ("id", "stop", "streaming")

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.streaming = False
        self.stop: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Send this text frame."""

    text: str


@dataclass(frozen=True, slots=True)
class Close:
    """Send this close frame, and nothing after it. `reason` has at most 123 bytes."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Find out who the client is, then call `acknowledge` or `close`, before the next frame is handed in."""

    connection_params: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Start:
    """Run this operation and report with `next_result`, `complete` or `fail`."""

    operation: Operation
    payload: SubscribePayload


@dataclass(frozen=True, slots=True)
class Stop:
    """The client has completed this operation: stop its work. It is no longer live."""

    operation: Operation


Action = Send | Close | Authenticate | Start | Stop


class ServerProtocol:
    """The state of one socket: whether it is acknowledged, which operations are live, whether it is closed.

    Args:
        subscriptions_max: live subscriptions on this socket; queries and mutations are not counted.
        decode: reads the JSON of a frame; raises ValueError if it is not JSON.
    """

    __slots__ = ("_acknowledged", "_decode", "_init_received", "_live", "_streaming", "_subscriptions_max", "closed")

    def __init__(self, *, subscriptions_max: int, decode: Callable[[str], Any] = decode_json) -> None:
        self._subscriptions_max = subscriptions_max
        self._decode = decode
        self._init_received = False
        self._acknowledged = False
        self._live: dict[str, Operation] = {}
        self._streaming = 0
        self.closed = False
        """True as soon as there is a close frame: nothing may be sent after it."""

    @property
    def acknowledged(self) -> bool:
        return self._acknowledged

    def is_live(self, operation: Operation) -> bool:
        """Whether frames may still be sent for `operation`."""
        return not self.closed and self._live.get(operation.id) is operation

    def receive_text(self, text: str) -> Action | None:
        """What to do about a text frame; None when there is nothing to do."""
        if self.closed:
            return None
        try:
            match parse_frame(text, self._decode):
                case Ping(payload):
                    return self._pong(payload)
                case Pong():
                    return None
                case ConnectionInit(payload):
                    return self._init(payload)
                case Subscribe(id_, payload):
                    return self._subscribe(id_, payload)
                case Complete(id_):
                    operation = self._live.get(id_)
                    return Stop(operation) if operation is not None and self._end(operation) else None
        except MalformedFrame as malformed:
            return self.close(CloseCode.BAD_REQUEST, str(malformed))

    def receive_binary(self) -> Close | None:
        """What to do about a binary frame: the protocol has none."""
        return self.close(CloseCode.BAD_REQUEST, "Binary messages are not part of the protocol")

    def init_timed_out(self) -> Close | None:
        """The time for initialisation is over. None when the socket is acknowledged or closed already."""
        if self._acknowledged:
            return None
        return self.close(CloseCode.INITIALISATION_TIMEOUT, "Connection initialisation timeout")

    def acknowledge(self) -> Send | None:
        """The client of `Authenticate` may come in. None when the socket was closed meanwhile."""
        if self.closed:
            return None
        self._acknowledged = True
        return Send(CONNECTION_ACK)

    def begin_stream(self, operation: Operation) -> bool:
        """Counts `operation` as a subscription; False when the socket has as many as it may have, or it has ended."""
        if not self.is_live(operation) or self._streaming >= self._subscriptions_max:
            return False
        operation.streaming = True
        self._streaming += 1
        return True

    def next_result(self, operation: Operation, payload: str) -> Send | None:
        """A result, as encoded JSON. None when the operation has ended: nothing may be sent for it."""
        return Send(next_frame(operation.id, payload)) if self.is_live(operation) else None

    def complete(self, operation: Operation) -> Send | None:
        """The operation succeeded and has ended. None when it had ended before. Its id is free from now on."""
        return Send(complete_frame(operation.id)) if self._end(operation) else None

    def fail(self, operation: Operation, errors: list[dict[str, Any]]) -> Send | None:
        """The operation ended with formatted GraphQL `errors`. None when it had ended before."""
        return Send(error_frame(operation.id, errors)) if self._end(operation) else None

    def fail_all(self, errors: list[dict[str, Any]]) -> list[tuple[Operation, Send]]:
        """Ends every live operation with the same `errors`. `connection` stops each before it sends its frame."""
        return [(operation, Send(error_frame(operation.id, errors))) for operation in self.abandon()]

    def close(self, code: int, reason: str) -> Close | None:
        """Ends the socket. None when it was closed before. Its operations stay until `abandon` takes them."""
        if self.closed:
            return None
        self.closed = True
        return Close(code, close_reason(reason))

    def abandon(self) -> list[Operation]:
        """Removes every live operation from the socket, for `connection` to stop. Nothing more is sent for them."""
        operations = list(self._live.values())
        self._live.clear()
        self._streaming = 0
        return operations

    def _pong(self, payload: dict[str, Any] | None) -> Action | None:
        try:
            return Send(pong_frame(payload))
        except ValueError:
            return self.close(CloseCode.BAD_REQUEST, '"ping" message has a "payload" that is nested too deeply')

    def _init(self, payload: dict[str, Any] | None) -> Action | None:
        if self._init_received:
            return self.close(CloseCode.TOO_MANY_INITIALISATION_REQUESTS, "Too many initialisation requests")
        self._init_received = True
        return Authenticate(payload)

    def _subscribe(self, id_: str, payload: SubscribePayload) -> Action | None:
        if not self._acknowledged:
            return self.close(CloseCode.UNAUTHORIZED, "Unauthorized")
        if id_ in self._live:
            return self.close(CloseCode.SUBSCRIBER_EXISTS, f"Subscriber for {id_} already exists")
        operation = self._live[id_] = Operation(id_)
        return Start(operation, payload)

    def _end(self, operation: Operation) -> bool:
        if not self.is_live(operation):
            return False
        del self._live[operation.id]
        if operation.streaming:
            self._streaming -= 1
        return True
