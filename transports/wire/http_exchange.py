"""One HTTP request and its answer over bare ASGI: headers, a body within its limit, a whole response."""

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
from starlette.types import Receive, Scope, Send

from errors import RetryLater
from transports.wire.json_codec import encode_json

Headers = list[tuple[bytes, bytes]]
OURS_ALONE: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
"""The headers of every answer of an API. With them no browser takes the answer for a page, hands it to another site's
page that embeds it, or keeps it for the next user of the machine. Pages of allowed origins still read it by CORS."""


PIECE_BYTES = 64 * 1024
"""What is handed to the transport at once: about as much as it takes before it says that its buffer is full."""


class Refused(Exception):
    """Raised to answer with an HTTP status and text instead of going on."""

    def __init__(self, status: int, problem: str, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(problem)
        self.status = status
        self.headers = list(headers)


class Disconnected(Exception):
    """Raised when the client has gone before its request was complete: there is nobody to answer."""


def request_headers(scope: Scope) -> dict[bytes, bytes]:
    """The headers by lower-case name. Of a repeated header the last counts; but every `Accept` is kept."""
    pairs = scope["headers"]
    headers = dict(pairs)
    if len(headers) < len(pairs) and b"accept" in headers:
        headers[b"accept"] = b",".join(value for name, value in pairs if name == b"accept")
    return headers


async def read_body(receive: Receive, headers: dict[bytes, bytes], bytes_max: int) -> bytes:
    """The whole body.

    Raises:
        Refused: 413, it is longer than `bytes_max`, or says so; 415, it is compressed.
        Disconnected: the client has gone.
    """
    length = headers.get(b"content-length")
    if length is not None and length.isdigit() and int(length) > bytes_max:
        raise _too_large(bytes_max)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refused(415, "Compressed bodies are not read.")
    parts: list[bytes] = []
    size = 0
    while True:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = event.get("body", b"")
        size += len(part)
        if size > bytes_max:
            raise _too_large(bytes_max)
        if not event.get("more_body", False):
            return b"".join([*parts, part]) if parts else part
        parts.append(part)


def _too_large(bytes_max: int) -> Refused:
    # What is left of the body will not be read, so the connection cannot be used again.
    return Refused(413, f"The body must be at most {bytes_max} bytes long.", [(b"connection", b"close")])


def encode_body(value: Any) -> bytes:
    """JSON in UTF-8. An error may quote what a client sent, with lone surrogates in it: they are written as escapes."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return encode_json(value).encode()


async def respond(send: Send, status: int, content_type: bytes, body: bytes, headers: Headers) -> None:
    """A whole response."""
    start = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *OURS_ALONE, *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    if len(body) <= PIECE_BYTES:
        await send({"type": "http.response.body", "body": body})
    else:
        await send_body(send, body)


async def send_body(send: Send, body: bytes) -> None:
    """Sends the last part of a response. A long one is sent in pieces, as fast as the client takes them: when this
    returns, all but the last piece have left this process."""
    pieces = range(0, len(body) - PIECE_BYTES, PIECE_BYTES)
    for start in pieces:
        await send({"type": "http.response.body", "body": body[start : start + PIECE_BYTES], "more_body": True})
        await asyncio.sleep(0)  # So a client that has gone is noticed, and a fast one does not delay the others.
    rest = body[len(pieces) * PIECE_BYTES :] if pieces else body
    await send({"type": "http.response.body", "body": rest})


def retry_after(error: RetryLater) -> tuple[bytes, bytes]:
    """The header that tells after how many whole seconds a retry makes sense."""
    return b"retry-after", b"%d" % max(1, -(-error.retry_after_ms // 1000))
