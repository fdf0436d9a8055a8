"""Subscriptions over one HTTP response: server-sent events and multipart.

SSE follows the graphql-sse protocol, distinct connections mode; multipart follows Apollo's protocol of multipart
subscriptions, `subscriptionSpec=1.0`. Lines of SSE end in LF: urql splits on that alone.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.types import Receive, Send

from delivery.sink import Batch
from transports.graphql.mailbox import Mailbox
from transports.wire.http_exchange import send_body
from transports.wire.json_codec import encode_json

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 12.0
"""After so long without a message a stream sends a heartbeat. Proxies cut silent connections after 30 s or more."""
STUCK_SECONDS = 60.0
"""When a client takes nothing for this long, its connection is ended, and it can resume on a new one."""

Headers = Sequence[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class StreamFormat:
    """A wire format of subscriptions over HTTP."""

    name: str
    content_type: bytes
    opening: bytes
    heartbeat: bytes
    completed: bytes
    """Sent when the subscription is over: the client must not come back."""
    interrupted: bytes
    """Sent when the server has to stop and the subscription is not over: the client shall come back. Usually empty."""
    batch: Callable[[Batch], bytes]
    result: Callable[[dict[str, Any]], bytes]
    """A whole GraphQL result."""
    failure: Callable[[list[dict[str, Any]]], bytes]
    """The errors that ended the subscription."""


def _sse_batch(batch: Batch) -> bytes:
    return b"".join(
        b"event: next\nid: %b\ndata: %b\n\n" % (entry.cursor.encode(), payload)
        for entry, payload in zip(batch.entries, batch.payloads, strict=True)
    )


def _sse_result(result: dict[str, Any]) -> bytes:
    return b"event: next\ndata: %b\n\n" % encode_json(result).encode()


SSE = StreamFormat(
    "sse",
    b"text/event-stream; charset=utf-8",
    # No empty line after a comment: it would end an event, and fetch-event-source reports empty events.
    opening=b":\n",
    heartbeat=b":\n",
    # The empty `data` line is needed: without one, EventSource drops the event.
    completed=b"event: complete\ndata:\n\n",
    interrupted=b"",
    batch=_sse_batch,
    result=_sse_result,
    failure=lambda errors: _sse_result({"errors": errors}),
)

# A part is delivered when the delimiter after it arrives, so each part sends the next delimiter with it.
_DELIMITER = b"\r\n--graphql"
_PART = b"\r\nContent-Type: application/json\r\n\r\n%b" + _DELIMITER


def _multipart_batch(batch: Batch) -> bytes:
    return b"".join(_PART % (b'{"payload":%b}' % payload) for payload in batch.payloads)


def _multipart_json(value: dict[str, Any]) -> bytes:
    return _PART % encode_json(value).encode()


MULTIPART = StreamFormat(
    "multipart",
    b'multipart/mixed;boundary="graphql";subscriptionSpec=1.0',
    opening=_DELIMITER,
    heartbeat=_PART % b"{}",
    completed=b"--\r\n",
    interrupted=b"",
    batch=_multipart_batch,
    result=lambda result: _multipart_json({"payload": result}),
    failure=lambda errors: _multipart_json({"payload": None, "errors": errors}),
)

FORMATS = {"sse": SSE, "multipart": MULTIPART}


async def start_stream(send: Send, form: StreamFormat, headers: Headers) -> None:
    """Begins the response, which tells the client that its subscription is in place."""
    start = [
        (b"content-type", form.content_type),
        (b"cache-control", b"no-store, no-transform"),
        (b"cross-origin-resource-policy", b"same-origin"),
        # Without this, nginx would gather the stream in its buffers.
        (b"x-accel-buffering", b"no"),
        *headers,
    ]
    await send({"type": "http.response.start", "status": 200, "headers": start})
    await _write(send, form.opening)


async def end_stream(send: Send, last: bytes) -> None:
    await send_body(send, last)


async def run_stream(
    receive: Receive,
    send: Send,
    form: StreamFormat,
    mailbox: Mailbox,
    *,
    format_errors: Callable[[Exception], list[dict[str, Any]]],
    heartbeat_seconds: float,
    stuck_seconds: float,
) -> None:
    """Writes what comes into the mailbox, until the subscription ends, the client has gone, or it takes nothing."""
    watch = asyncio.get_running_loop().create_task(_watch(receive, mailbox))
    try:
        async with asyncio.timeout(None) as patience:
            loop = asyncio.get_running_loop()
            while True:
                batch = await mailbox.take(heartbeat_seconds)
                patience.reschedule(loop.time() + stuck_seconds)
                if batch is not None:
                    await _write(send, batch.wire(form.batch))
                    # Most servers wait for their client before they write. So the wait is here, where the next batch is
                    # still in the mailbox: from there it can be taken back when one of its messages is erased. Our own
                    # server has waited already, and does nothing for an empty part.
                    await _write(send, b"")
                elif mailbox.gone:
                    await end_stream(send, form.interrupted)
                    return
                elif mailbox.ended:
                    if mailbox.error is None:
                        await end_stream(send, form.interrupted)
                    else:
                        await end_stream(send, form.failure(format_errors(mailbox.error)) + form.completed)
                    return
                else:
                    await _write(send, form.heartbeat)
                patience.reschedule(None)
    except TimeoutError:
        logger.info("A stream's client has taken nothing for %g s; it is left", stuck_seconds)
    finally:
        watch.cancel()


async def _write(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _watch(receive: Receive, mailbox: Mailbox) -> None:
    """Notices when the client has gone. The rest of a request's body is ignored."""
    while (await receive())["type"] != "http.disconnect":
        pass
    mailbox.leave()
