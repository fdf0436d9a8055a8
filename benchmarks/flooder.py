"""A client that does one thing past its limit as often as it can, from 127.0.0.2: the flood of `benchmarks.flood`.

    python -m benchmarks.flooder --port 8010 --kind posts

Floods until its standard input ends, `SECONDS_MAX` at most. Prints JSON: for how long, how often it was refused as it
should be, and how often a connection was lost or could not be had.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from tests.transports.live_server import frame

ADDRESS = "127.0.0.2"
"""Whoever is limited by address shall not be the load generator."""
SECONDS_MAX = 300.0
CONNECTIONS = 16
SUBSCRIPTIONS = 10
"""Live subscriptions of each connection, as many as the limit allows it."""
BUSY_CHANNEL = "bench00000"
"""Where the load's subscribers are."""
FILTERS = 100
"""Subscriptions that each connection opens, each with a filter of its own: as many as one client may have."""
AT_ONCE = 8
"""Requests under way on each connection."""


def _post(path: str, body: bytes, *, length: int | None = None) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body) if length is None else length}\r\n\r\n"
    )
    return head.encode() + body


def _socket(path: str, protocol: str = "") -> bytes:
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
    """To the channel that everybody else hears, with a filter of its own that lets everything through."""
    payload = {
        "query": "subscription ($c: ID!, $f: MessageFilter) { messages(channelId: $c, filter: $f) { sequence } }",
        "variables": {"c": BUSY_CHANNEL, "f": {"authors": ["bench", str(id_)]}},
    }
    return frame(json.dumps({"id": str(id_), "type": "subscribe", "payload": payload}))


@dataclass(frozen=True)
class Kind:
    """One way to flood: a request that is sent again and again, and the bytes by which its refusal is known."""

    limit: str
    refusal: bytes
    request: Callable[[int], bytes]
    answer: bytes = b""
    """What every answer holds, a refusal or not; empty where only refusals come."""
    opening: tuple[tuple[bytes, bytes], ...] = ()
    """What is sent first on each connection, step by step, and what the answer to each step holds."""
    once: bool = False
    """The refusal ends the connection, and another one is opened."""


KINDS = {
    "posts": Kind(
        "posts per second",
        b"HTTP/1.1 429",
        lambda n: _post("/api/messages", b'{"channel_id":"flood","author":"flood","content":"x"}'),
        answer=b"HTTP/1.1 ",
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
        opening=((_socket("/api/ws/flood"), b"\r\n\r\n"),),
        once=True,
    ),
    "subscriptions": Kind(
        "subscriptions per connection",
        b'"type":"error"',
        lambda n: _subscribe(n + SUBSCRIPTIONS),
        opening=(
            (_socket("/graphql", "Sec-WebSocket-Protocol: graphql-transport-ws\r\n"), b"\r\n\r\n"),
            (frame('{"type":"connection_init"}'), b"connection_ack"),
            (b"".join(map(_subscribe, range(SUBSCRIPTIONS))) + frame('{"type":"ping"}'), b'"pong"'),
        ),
    ),
    "filters": Kind(
        "filters of one channel",
        b"TOO_MANY_FILTERS",
        lambda n: _subscribe_filtered(n + FILTERS),
        opening=(
            (_socket("/graphql", "Sec-WebSocket-Protocol: graphql-transport-ws\r\n"), b"\r\n\r\n"),
            (frame('{"type":"connection_init"}'), b"connection_ack"),
            (b"".join(map(_subscribe_filtered, range(FILTERS))) + frame('{"type":"ping"}'), b'"pong"'),
        ),
    ),
    "connections": Kind(
        "connections per address",
        b"HTTP/1.1 429",
        lambda n: b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        once=True,
    ),
}


class _Flood(asyncio.Protocol):
    """One connection of a flood."""

    def __init__(self, kind: Kind, numbers: "count[int]", counts: dict[str, int], over: asyncio.Event) -> None:
        self._kind = kind
        self._numbers = numbers
        self._counts = counts
        self._over = over
        self._seen = b""
        self._steps = iter(kind.opening)
        self._awaited = b""
        self._owed = 0
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._go_on()

    def _go_on(self) -> None:
        step = next(self._steps, None)
        if step is None:
            self._awaited = b""
            self._ask()
        else:
            request, self._awaited = step
            self._transport.write(request)

    def _ask(self) -> None:
        if self._over.is_set():
            self._transport.abort()
            return
        self._owed = 1 if self._kind.once else AT_ONCE
        self._transport.write(b"".join(self._kind.request(next(self._numbers)) for _ in range(self._owed)))

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if self._awaited:
            if self._awaited in self._seen:
                self._seen = b""
                self._go_on()
            return
        refused = self._seen.count(self._kind.refusal)
        answer = self._kind.answer or self._kind.refusal
        answered = self._seen.count(answer)
        # What may still become an answer stays; a refusal begins with its answer, or is it.
        self._seen = self._seen[-len(self._kind.refusal) + 1 :]
        self._counts["refused"] += refused
        self._owed -= answered
        if self._kind.once and refused:
            self._transport.abort()
        elif self._owed <= 0:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._owed > 0 and not self._over.is_set():
            self._counts["otherwise"] += 1
        self.lost.set_result(None)


async def flood(port: int, kind: Kind, held: int, over: asyncio.Event) -> dict[str, int | float]:
    """Floods until `over`; `held` connections stay open beside those that flood."""
    loop = asyncio.get_running_loop()
    numbers, counts = count(), {"refused": 0, "otherwise": 0}
    streams = [await asyncio.open_connection("127.0.0.1", port, local_addr=(ADDRESS, 0)) for _ in range(held)]
    for _, writer in streams:  # As sockets that wait for messages, so that they stay.
        writer.write(_socket("/api/ws/quiet"))

    async def again_and_again() -> None:
        while not over.is_set():
            try:
                _, one = await loop.create_connection(
                    lambda: _Flood(kind, numbers, counts, over), "127.0.0.1", port, local_addr=(ADDRESS, 0)
                )
            except OSError:
                counts["otherwise"] += 1
                await asyncio.sleep(0.01)
            else:
                await one.lost

    began = loop.time()
    floods = [asyncio.create_task(again_and_again()) for _ in range(CONNECTIONS)]
    try:
        async with asyncio.timeout(SECONDS_MAX):
            await over.wait()
    except TimeoutError:
        over.set()
    seconds = loop.time() - began
    for task in floods:
        task.cancel()
    for _, writer in streams:
        writer.transport.abort()
    return {"seconds": seconds, **counts}


async def flood_until_told(port: int, kind: Kind, held: int) -> dict[str, int | float]:
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin, over.set)
    return await flood(port, kind, held, over)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--kind", choices=sorted(KINDS), required=True)
    parser.add_argument("--held", type=int, default=0, help="connections that stay open beside those that flood")
    options = parser.parse_args()
    print(json.dumps(asyncio.run(flood_until_told(options.port, KINDS[options.kind], options.held))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
