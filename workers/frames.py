"""The frames between a worker and the owner of the log. Each is a length, a kind, and MessagePack.

The types are the annotations in `message_log.protocol`: the arguments of a listener's method, and the results of the
log's methods, are sent as they are annotated there, and are checked when they are read. msgspec is used and not orjson:
it builds a `Message` in 1.0 µs, orjson with the constructor takes 3.3 (in batches of 8; encoding takes the same time),
and every worker reads every message.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum
from functools import cache
from typing import Any, NamedTuple, get_type_hints

import msgspec

import errors
from errors import RaqcoonError
from message_log.protocol import Appended, LogListener
from messages import Draft

VERSION = 1
_HEAD = struct.Struct(">IB")
HEAD_BYTES = _HEAD.size
FRAME_BYTES_MAX = 64 * 1024 * 1024
"""A frame that says that it is longer was not sent by this server. The contents of a commit have about 4 MiB at most,
and MessagePack adds no escapes."""


class Kind(IntEnum):
    """What a frame holds."""

    HELLO = 1
    """Owner: `Hello`. It is the first frame; after it every commit is told."""
    POSTS = 2
    """Worker: `Posts`."""
    TOLD = 3
    """Owner: a call of the log's listener, `Told`."""
    STORED = 4
    """Owner: a flat list of pairs: the number of a post, and the place of its message in the newest commit told."""
    ANSWERS = 5
    """Owner: `Answer`s to posts that did not become a new message."""
    CALL = 6
    """Worker: `Call` of another method of the log."""
    RESULT = 7
    """Owner: `Result` of a call."""


class Hello(NamedTuple):
    """`version` of these frames, and which log is served."""

    version: int
    epoch: str


class Posts(NamedTuple):
    """Drafts numbered `first`, `first` + 1, …"""

    first: int
    drafts: list[Draft]


class Told(NamedTuple):
    """A call of the listener: the method's name, and its arguments as a list."""

    method: str
    arguments: msgspec.Raw


class Failure(NamedTuple):
    """An exception, as far as it may be shown: its class's name in `errors`, its text and its attributes."""

    name: str
    text: str
    details: dict[str, Any]


class Answer(NamedTuple):
    """What became of post `number`: a message that was there before, or a failure."""

    number: int
    appended: Appended | None
    failure: Failure | None


class Call(NamedTuple):
    """A call of the log: its number, the method's name, its arguments as a list."""

    number: int
    method: str
    arguments: msgspec.Raw


class Result(NamedTuple):
    """What call `number` returned, or how it failed."""

    number: int
    value: msgspec.Raw
    failure: Failure | None


class NotAFrame(ValueError):
    """Raised when what came cannot be read: the other side has another version, or is no part of this server."""


_encoder = msgspec.msgpack.Encoder()
_PAYLOADS: dict[Kind, Any] = {
    Kind.HELLO: Hello,
    Kind.POSTS: Posts,
    Kind.TOLD: Told,
    Kind.STORED: list[int],
    Kind.ANSWERS: list[Answer],
    Kind.CALL: Call,
    Kind.RESULT: Result,
}
_decoders: dict[int, msgspec.msgpack.Decoder[Any]] = {
    kind: msgspec.msgpack.Decoder(payload) for kind, payload in _PAYLOADS.items()
}


def frame(kind: Kind, payload: object) -> bytes:
    """One frame."""
    body = _encoder.encode(payload)
    return _HEAD.pack(len(body), kind) + body


def raw(value: object) -> msgspec.Raw:
    """A value that is encoded already, to be put into a frame."""
    return msgspec.Raw(_encoder.encode(value))


def decode(kind: int, body: bytes | memoryview) -> Any:
    """A frame's payload.

    Raises:
        NotAFrame: its kind is unknown, or it cannot be decoded.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        raise NotAFrame(f"kind {kind} is unknown")
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise NotAFrame(str(error)) from None


@cache
def _arguments_decoder(owner: type, method: str) -> msgspec.msgpack.Decoder[tuple[Any, ...]]:
    hints = get_type_hints(getattr(owner, method))
    hints.pop("return", None)
    return msgspec.msgpack.Decoder(tuple[tuple(hints.values())])  # type: ignore[misc]


@cache
def _result_decoder(owner: type, method: str) -> msgspec.msgpack.Decoder[Any]:
    return msgspec.msgpack.Decoder(get_type_hints(getattr(owner, method)).get("return", Any))


def arguments(owner: type, method: str, encoded: msgspec.Raw) -> tuple[Any, ...]:
    """The arguments of a call of `owner.method`, with the types of its annotations."""
    return _arguments_decoder(owner, method).decode(encoded)


def result(owner: type, method: str, encoded: msgspec.Raw) -> Any:
    """What `owner.method` returned, with the type of its annotation."""
    return _result_decoder(owner, method).decode(encoded)


LISTENER_METHODS = frozenset(name for name in vars(LogListener) if not name.startswith("_"))


def failure_of(error: BaseException) -> Failure:
    """How an error of the log is told to a worker. One that clients may not see becomes an internal error there too."""
    if not isinstance(error, RaqcoonError):
        return Failure("InternalError", "", {})
    return Failure(type(error).__name__, str(error), dict(vars(error)))


def error_of(failure: Failure) -> RaqcoonError:
    """The error that `failure_of` was given."""
    kind = getattr(errors, failure.name, None)
    if not (isinstance(kind, type) and issubclass(kind, RaqcoonError)):
        return errors.InternalError()
    error = kind.__new__(kind, failure.text)  # Not `__init__`, which builds the text: here it is complete already.
    error.args = (failure.text,) if failure.text else errors.InternalError().args
    vars(error).update(failure.details)
    return error


class Reader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Takes what came and yields each frame that is whole: kind and body.

        Raises:
            NotAFrame: a frame says that it is longer than `FRAME_BYTES_MAX`.
        """
        buffer = self._buffer
        buffer += data
        start, end = 0, len(buffer)
        try:
            while end - start >= HEAD_BYTES:
                length, kind = _HEAD.unpack_from(buffer, start)
                if length > FRAME_BYTES_MAX:
                    raise NotAFrame(f"a frame of {length} bytes")
                stop = start + HEAD_BYTES + length
                if stop > end:
                    break
                body = bytes(memoryview(buffer)[start + HEAD_BYTES : stop])
                start = stop
                yield kind, body
        finally:
            del buffer[:start]
