"""The floods of `benchmarks.flood`. Each is one row of its table. To add one, add a `Kind` to `KINDS`."""

import json
from collections.abc import Callable
from dataclasses import dataclass

from graphql import get_introspection_query

from tests.transports.live_server import frame

SUBSCRIPTIONS = 10
"""Live subscriptions of each connection: as many as the limit allows."""
BUSY_CHANNEL = "bench00000"
"""The channel of the load's subscribers."""
FILTERS = 100
"""Subscriptions that each connection opens. Each has its own filter. One client may not have more."""
AT_ONCE = 8
"""Requests under way on each connection."""


def _post(path: str, body: bytes, *, length: int | None = None) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


def handshake(path: str, protocol: str = "") -> bytes:
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{protocol}"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def _graphql(document: str) -> bytes:
    return _post("/graphql", json.dumps({"query": document}).encode())


def _subscribe(id_: int) -> bytes:
    payload = {"query": 'subscription { messages(channelId: "flood") { sequence } }'}
    return frame(json.dumps({"id": str(id_), "type": "subscribe", "payload": payload}))


def _subscribe_filtered(id_: int) -> bytes:
    """A subscription to the channel of all other subscribers. Its filter is different from all others, and matches
    everything."""
    payload = {
        "query": "subscription ($c: ID!, $f: MessageFilter) { messages(channelId: $c, filter: $f) { sequence } }",
        "variables": {"c": BUSY_CHANNEL, "f": {"authors": ["bench", str(id_)]}},
    }
    return frame(json.dumps({"id": str(id_), "type": "subscribe", "payload": payload}))


def _revoke(id_: int) -> bytes:
    """Over a socket, on which several run at the same time. 128 ask, and those that are too many to wait are
    refused."""
    payload = {
        "query": "mutation ($a: String!) { revokeAccess(author: $a) { author } }",
        "variables": {"a": f"flood{id_ % 5_000}"},
    }
    return frame(json.dumps({"id": str(id_), "type": "subscribe", "payload": payload}))


def _filtered_page(number: int) -> str:
    """A page of the busy channel that looks at many messages and finds none."""
    return (
        f'a{number}: channel(id: "{BUSY_CHANNEL}") {{ messages(first: 1, filter: {{ authors: ["nobody"] }}) '
        "{ edges { cursor } } }"
    )


MANY_VALUES = json.dumps(
    {
        "query": "query ($l: [String!]) { channel(id: 1) { messages(filter: { lanes: $l }) { edges { cursor } } } }",
        "variables": {"l": ["x"] * 250_000},
    },
    separators=(",", ":"),
).encode()
FRAGMENT = frame("a")
CHUNKED = b"POST /api/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Kind:
    """One way to flood: a request that is sent again and again, and the bytes that show what its answer is."""

    label: str
    """The name of the row: the limit that is exceeded, or what is done if no limit refuses it."""
    refusal: bytes
    """Bytes that are in each refusal, or in each answer if nothing is refused. Empty if the flood does not wait for
    answers: then it sends the request again as fast as the server takes it."""
    request: Callable[[int], bytes]
    answer: bytes = b""
    """Bytes that are in every answer, whether it is a refusal or not. Empty if all answers are refusals."""
    opening: tuple[tuple[bytes, bytes], ...] = ()
    """What is sent first on each connection, step by step, and bytes that are in the answer to each step."""
    once: bool = False
    """Whether the refusal ends the connection. Then another one is opened."""
    settings: tuple[tuple[str, str], ...] = ()
    """Settings that the server needs for this flood."""


KINDS = {
    "posts": Kind(
        "posts per second",
        b"HTTP/1.1 429",
        lambda n: _post("/api/messages", b'{"channel_id":"flood","author":"flood","content":"x"}'),
        answer=b"HTTP/1.1 ",
    ),
    "revocations": Kind(
        "revocations that wait",
        b"UNAVAILABLE",
        _revoke,
        answer=b'"complete"',
        opening=(
            (handshake("/graphql", "Sec-WebSocket-Protocol: graphql-transport-ws\r\n"), b"\r\n\r\n"),
            (frame('{"type":"connection_init"}'), b"connection_ack"),
        ),
    ),
    "documents": Kind(
        "document tokens",
        b"GRAPHQL_PARSE_FAILED",
        lambda n: _graphql("{" + " ".join(f"a{n}x{each}: __typename" for each in range(400)) + "}"),
    ),
    "nesting": Kind("JSON nesting", b"HTTP/1.1 400", lambda n: _post("/graphql", b"[" * 20_000)),
    "bodies": Kind("body bytes", b"HTTP/1.1 413", lambda n: _post("/graphql", b"{" * 1_000, length=2**21), once=True),
    "frames": Kind(
        "frame bytes",
        b"\x03\xf1",  # close 1009
        lambda n: b"\x81\xff" + (2**21).to_bytes(8, "big") + bytes(4) + b"x" * 1_000,
        opening=((handshake("/api/ws/flood"), b"\r\n\r\n"),),
        once=True,
    ),
    "subscriptions": Kind(
        "subscriptions per connection",
        b'"type":"error"',
        lambda n: _subscribe(n + SUBSCRIPTIONS),
        opening=(
            (handshake("/graphql", "Sec-WebSocket-Protocol: graphql-transport-ws\r\n"), b"\r\n\r\n"),
            (frame('{"type":"connection_init"}'), b"connection_ack"),
            (b"".join(map(_subscribe, range(SUBSCRIPTIONS))) + frame('{"type":"ping"}'), b'"pong"'),
        ),
    ),
    "filters": Kind(
        "filters of one channel",
        b"TOO_MANY_FILTERS",
        lambda n: _subscribe_filtered(n + FILTERS),
        opening=(
            (handshake("/graphql", "Sec-WebSocket-Protocol: graphql-transport-ws\r\n"), b"\r\n\r\n"),
            (frame('{"type":"connection_init"}'), b"connection_ack"),
            (b"".join(map(_subscribe_filtered, range(FILTERS))) + frame('{"type":"ping"}'), b'"pong"'),
        ),
        settings=(("RAQCOON_MAX_SUBSCRIPTIONS_PER_CONNECTION", "1000"),),
    ),
    "reads": Kind(
        "30 filtered pages in one query",
        b"HTTP/1.1 200",
        lambda n: _graphql("{ " + " ".join(map(_filtered_page, range(30))) + " }"),
    ),
    "introspection": Kind("GraphiQL's introspection", b"HTTP/1.1 200", lambda n: _graphql(get_introspection_query())),
    "padding": Kind(
        "unknown documents, padded",
        b"HTTP/1.1 200",
        lambda n: _graphql(f"query Q{n} {{ __typename }}".ljust(130_000)),
    ),
    "variables": Kind(
        "250,000 values in a variable",
        b"BAD_USER_INPUT",
        lambda n: _post("/graphql", MANY_VALUES),
    ),
    "lists": Kind(
        "`/api/messages?limit=1000`",
        b"HTTP/1.1 200",
        lambda n: b"GET /api/messages?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ),
    "connections": Kind(
        "connections per address",
        b"HTTP/1.1 429",
        lambda n: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        once=True,
    ),
    "ahead": Kind(
        "requests sent ahead, answers not read",
        b"",
        lambda n: b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1_000,
    ),
    "trailers": Kind(
        "trailers without end",
        b"HTTP/1.1 400",
        lambda n: CHUNKED + b"1\r\na\r\n0\r\n" + (b"x: " + b"y" * 1_000 + b"\r\n") * 100,
        once=True,
    ),
    "chunks": Kind("chunks of one byte", b"", lambda n: CHUNKED + b"1\r\na\r\n" * 40_000 + b"0\r\n\r\n"),
    "fragments": Kind(
        "WebSocket fragments of one byte",
        b"",
        lambda n: (b"\x01" + FRAGMENT[1:]) + (b"\x00" + FRAGMENT[1:]) * 20_000 + (b"\x80" + FRAGMENT[1:]),
        opening=((handshake("/api/ws/flood"), b"\r\n\r\n"),),
    ),
    "metrics": Kind("`/metrics`", b"HTTP/1.1 200", lambda n: b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "files": Kind("static files", b"HTTP/1.1 200", lambda n: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "healthz": Kind("`/healthz`", b"HTTP/1.1 200", lambda n: b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"),
}
