"""The wire vocabulary of graphql-transport-ws: close codes, what a client may say, what the server says.

Source: PROTOCOL.md of the graphql-ws project. Everything here is a plain function of its arguments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from transports.wire.json_codec import TooManyContainers, decode_json, encode_json

SUBPROTOCOL = "graphql-transport-ws"
REASON_BYTES_MAX = 123
"""What is left of a control frame's 125 bytes after the close code (RFC 6455, section 5.5)."""
ID_BYTES_MAX = 1024
"""Longest operation id, in UTF-8 bytes. Every `next` frame repeats it, so a client must not make the server send much
by a long one. A UUID has 36."""


class CloseCode(IntEnum):
    """Why the server ends a socket. graphql-ws clients retry on 1012, 1013, 4403 and 4408; the others are fatal."""

    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_REQUEST = 4400
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    SUBPROTOCOL_NOT_ACCEPTABLE = 4406
    INITIALISATION_TIMEOUT = 4408
    SUBSCRIBER_EXISTS = 4409
    TOO_MANY_INITIALISATION_REQUESTS = 4429
    INTERNAL_SERVER_ERROR = 4500


def close_reason(text: str) -> str:
    """`text`, cut to at most `REASON_BYTES_MAX` bytes of UTF-8 between two characters."""
    return text.encode("utf-8", "replace")[:REASON_BYTES_MAX].decode("utf-8", "ignore")


class MalformedFrame(ValueError):
    """Raised when a frame is not a message of this protocol. Its text is the close reason, before it is cut."""


@dataclass(frozen=True, slots=True)
class ConnectionInit:
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Ping:
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Pong:
    payload: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class SubscribePayload:
    """An operation as a client asks for it: a subscription, a query or a mutation."""

    query: str
    operation_name: str | None
    variables: dict[str, Any] | None
    extensions: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Subscribe:
    id: str
    payload: SubscribePayload


@dataclass(frozen=True, slots=True)
class Complete:
    id: str


ClientMessage = ConnectionInit | Ping | Pong | Subscribe | Complete


def parse_frame(text: str, decode: Callable[[str], Any] = decode_json) -> ClientMessage:
    """What a client has sent in one text frame. Members that the protocol does not name are ignored.

    Raises:
        MalformedFrame: it is not JSON or not an object, a client may not send its type, or it has the wrong shape.
    """
    try:
        frame = decode(text)
    except TooManyContainers as error:
        raise MalformedFrame(f"Message {error}") from None
    except ValueError:
        raise MalformedFrame("Message is not valid JSON") from None
    if not isinstance(frame, dict):
        raise MalformedFrame("Message is not a JSON object")
    match frame.get("type"):
        case "subscribe":
            return Subscribe(_id(frame, "subscribe"), _subscribe_payload(frame))
        case "complete":
            return Complete(_id(frame, "complete"))
        case "ping":
            return Ping(_optional_object(frame, "payload", "ping"))
        case "pong":
            return Pong(_optional_object(frame, "payload", "pong"))
        case "connection_init":
            return ConnectionInit(_optional_object(frame, "payload", "connection_init"))
        case None:
            raise MalformedFrame('Message has no "type"')
        case str(unknown):
            raise MalformedFrame(f'Message has the unexpected "type" {unknown[:REASON_BYTES_MAX]}')
        case _:
            raise MalformedFrame('Message has a "type" that is not a string')


def _id(frame: dict[str, Any], type_: str) -> str:
    id_ = frame.get("id")
    if not isinstance(id_, str) or not id_:
        raise MalformedFrame(f'"{type_}" message needs an "id" that is a non-empty string')
    try:
        size_bytes = len(id_.encode())
    except UnicodeEncodeError:
        raise MalformedFrame(f'"{type_}" message has an "id" that is not Unicode text') from None
    if size_bytes > ID_BYTES_MAX:
        raise MalformedFrame(f'"{type_}" message has an "id" of more than {ID_BYTES_MAX} bytes')
    return id_


def _subscribe_payload(frame: dict[str, Any]) -> SubscribePayload:
    payload = frame.get("payload")
    if not isinstance(payload, dict):
        raise MalformedFrame('"subscribe" message needs a "payload" that is an object')
    query = payload.get("query")
    if not isinstance(query, str):
        raise MalformedFrame('"subscribe" payload needs a "query" that is a string')
    operation_name = payload.get("operationName")
    if operation_name is not None and not isinstance(operation_name, str):
        raise MalformedFrame('"subscribe" payload has an "operationName" that is not a string')
    return SubscribePayload(
        query,
        operation_name,
        _optional_object(payload, "variables", "subscribe"),
        _optional_object(payload, "extensions", "subscribe"),
    )


def _optional_object(container: dict[str, Any], name: str, type_: str) -> dict[str, Any] | None:
    value = container.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise MalformedFrame(f'"{type_}" message has "{name}" that is neither an object nor null')


CONNECTION_ACK = '{"type":"connection_ack"}'


def pong_frame(payload: dict[str, Any] | None) -> str:
    """The answer to a ping, with the same payload.

    Raises:
        ValueError: the payload is nested too deeply to be written.
    """
    return '{"type":"pong"}' if payload is None else f'{{"type":"pong","payload":{encode_json(payload)}}}'


def next_frame(operation_id: str, payload: str) -> str:
    """A result of an operation; `payload` is the encoded GraphQL result."""
    return f'{{"id":{encode_json(operation_id)},"type":"next","payload":{payload}}}'


def error_frame(operation_id: str, errors: list[dict[str, Any]]) -> str:
    """Ends an operation with `errors`, each a formatted GraphQL error. No frame may follow for its id."""
    return f'{{"id":{encode_json(operation_id)},"type":"error","payload":{encode_json(errors)}}}'


def complete_frame(operation_id: str) -> str:
    """Ends an operation that succeeded. No frame may follow for its id."""
    return f'{{"id":{encode_json(operation_id)},"type":"complete"}}'
