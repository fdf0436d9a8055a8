"""A request whose head is known is the same request that the parser would have made of it."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.config import Config
from uvicorn.server import ServerState

from tests.transports.test_smuggling import CODINGS, LENGTHS
from transports.serving import known_heads
from transports.serving.held_bytes import HeldBytes
from transports.serving.http_protocol import HttpProtocol
from transports.serving.known_heads import KNOWN_HEADERS_MAX, KnownHead, KnownHeads, without_length

Seen = list[tuple[dict[str, Any], bytes]]
LINE = b"POST /graphql HTTP/1.1\r\nHost: localhost\r\n"


class Transport(asyncio.Transport):
    """A connection without a socket. Nothing that is sent here waits."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def write(self, data: Any) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Forgetful(KnownHeads):
    """Makes every request go to the parser."""

    def keep(self, key: bytes, head: KnownHead) -> None:
        pass


class Noting(KnownHeads):
    def __init__(self) -> None:
        super().__init__()
        self.recalled = 0

    def find(self, key: bytes) -> KnownHead | None:
        head = super().find(key)
        self.recalled += head is not None
        return head


async def exchange(heads: KnownHeads, *pieces: bytes, held: HeldBytes | None = None) -> tuple[Seen, bytes, bool]:
    """What the application has seen of the requests, what was sent back, and whether the connection was closed."""
    seen: Seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                break
            body += event["body"]
            more = event["more_body"]
        seen.append(({**scope, "headers": list(scope["headers"])}, body))
        scope["headers"].append((b"added", b"by the application"))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = Config(app, lifespan="off", access_log=False, log_level="critical")
    config.load()
    state = ServerState()
    state.raqcoon_shared = {KnownHeads: heads}  # type: ignore[attr-defined]
    protocol = HttpProtocol(config=config, server_state=state, app_state={}, held_bytes=held)
    transport = Transport()
    protocol.connection_made(transport)
    for piece in pieces:
        if transport.closed:
            break
        protocol.data_received(piece)
        for _ in range(12):
            await asyncio.sleep(0)
    closed = transport.closed
    protocol.connection_lost(None)
    await asyncio.sleep(0)
    return seen, transport.written, closed


def request(body: bytes, lines: bytes = b"", line: bytes = LINE) -> bytes:
    return line + lines + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def test_known_head_begins_the_same_request_with_its_own_body() -> None:
    heads, lines = Noting(), b"Content-Type: application/json\r\nX-Two: a\r\nx-two: b\r\n"
    seen, written, closed = await exchange(heads, request(b"{}", lines), request(b"x" * 300, lines))
    assert heads.recalled == 1
    assert [body for _, body in seen] == [b"{}", b"x" * 300]
    (first, _), (second, _) = seen
    assert dict(second["headers"])[b"content-length"] == b"300"
    assert (b"added", b"by the application") not in second["headers"]
    first["headers"] = [(n, b"300" if n == b"content-length" else v) for n, v in first["headers"]]
    assert second == first
    assert written.count(b"HTTP/1.1 200 OK") == 2
    assert not closed


async def test_head_is_known_on_every_connection_of_the_server() -> None:
    heads = Noting()
    for times in range(3):
        seen, _, _ = await exchange(heads, request(b"{}"))
        assert len(seen) == 1
        assert heads.recalled == times


@pytest.mark.parametrize("size", [0, 1, 5, 70_000])
@pytest.mark.parametrize("cut", [1, 30, 9999])
async def test_body_of_a_known_head_comes_in_pieces(size: int, cut: int) -> None:
    heads, held = Noting(), HeldBytes()
    whole = request(b"y" * size)
    head = whole[: len(whole) - size]
    rest = [whole[place : place + cut] for place in range(len(head), len(whole), max(cut, size // 8))]
    pieces = [head, *([whole[len(head) :]] if cut < size // 8 else rest)]
    seen, _, _ = await exchange(heads, request(b"{}"), *pieces, request(b"after"), held=held)
    assert [len(body) for _, body in seen] == [2, size, 5]
    assert heads.recalled == 2
    assert held.total == 0


async def test_requests_sent_in_advance_are_answered_in_turn() -> None:
    heads = Noting()
    seen, written, _ = await exchange(heads, b"".join(request(b"z" * size) for size in (3, 0, 900)), b"")
    assert [len(body) for _, body in seen] == [3, 0, 900]
    assert heads.recalled == 2
    assert written.count(b"200 OK") == 3


async def test_body_of_a_known_head_that_the_server_cannot_hold_is_refused() -> None:
    heads, held = Noting(), HeldBytes(bytes_max=20_000)
    long = request(b"x" * 30_000)
    _, written, _ = await exchange(heads, request(b"{}"), long[:25_000], held=held)
    assert heads.recalled == 1
    assert b"HTTP/1.1 503 " in written
    assert held.total == 0


NOT_KEPT = {
    "closes the connection": request(b"{}", b"Connection: close\r\n"),
    "HTTP/1.0": request(b"{}", line=b"POST /graphql HTTP/1.0\r\n"),
    "expects 100 Continue": request(b"{}", b"Expect: 100-continue\r\n"),
    "chunked": LINE + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "asks for another protocol": request(b"{}", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    "has a query string": request(b"{}", line=b"POST /graphql?a=b HTTP/1.1\r\nHost: localhost\r\n"),
    "has many headers": request(b"{}", b"a: b\r\n" * (KNOWN_HEADERS_MAX - 1)),
    "is longer than a slice": request(b"{}", b"a: " + b"b" * 2048 + b"\r\n"),
    "a length of many digits": request(b"{}").replace(b": 2\r\n", b": 00000002\r\n"),
    "white space before the length": request(b"{}").replace(b"Content-Length: ", b"Content-Length:  "),
}


@pytest.mark.parametrize("sent", NOT_KEPT.values(), ids=NOT_KEPT)
async def test_head_that_is_more_than_plain_goes_to_the_parser_each_time(sent: bytes) -> None:
    heads = Noting()
    first = await exchange(heads, sent)
    assert await exchange(heads, sent) == first
    assert len(first[0]) == 1
    assert heads.recalled == 0


async def test_head_that_came_in_two_pieces_is_not_kept() -> None:
    heads, sent = Noting(), request(b"{}")
    await exchange(heads, sent[:40], sent[40:])
    await exchange(heads, sent)
    assert heads.recalled == 0


async def test_head_in_pieces_is_not_kept_in_the_place_of_the_one_before_it() -> None:
    heads, first, second = Noting(), request(b"{}"), request(b"{}", line=b"POST /other HTTP/1.1\r\nHost: localhost\r\n")
    seen, _, _ = await exchange(heads, first, second[:40], second[40:], first)
    assert [scope["path"] for scope, _ in seen] == ["/graphql", "/other", "/graphql"]
    assert heads.recalled == 1


async def test_what_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known_heads, "KNOWN_HEADS_MAX", 8)
    heads = Noting()
    for number in range(20):
        await exchange(heads, request(b"{}", b"X: %d\r\n" % number))
        assert len(heads._heads) <= 8
    await exchange(heads, request(b"{}", b"X: 19\r\n"))
    assert heads.recalled == 1


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (b"Content-Length: 12\r\nA: b", (b"Content-Length: \r\nA: b", b"12")),
        (b"content-length:0", (b"content-length:", b"0")),
        (b"CONTENT-LENGTH: 0000012", (b"CONTENT-LENGTH: ", b"0000012")),
        (b"A: content-length: 5", (b"A: content-length: 5", b"")),
        *(
            (b"Content-Length:" + value, None)
            for value in (b"", b" ", b"  1", b"\t1", b" 1 ", b" +1", b" 1,1", b" 1\n2", b" 12345678", "\u0661".encode())
        ),
    ],
)
def test_length_is_taken_only_from_where_it_plainly_stands(lines: bytes, found: tuple[bytes, bytes] | None) -> None:
    around = b"POST / HTTP/1.1\r\n%b\r\n\r\n"
    assert without_length(around % lines) == (found and (around % found[0], found[1]))


ODD_LINES = [
    b"",
    b"A: b\r\n",
    b"Cookie: a=b\r\n",
    b"Connection: keep-alive\r\n",
    b"Connection: close\r\n",
    b"Host: other\r\n",
    b"X-Content-Length: 7\r\n",
    b"X: \r\ncontent-length: 3\r\n",
    *CODINGS.values(),
    *(line % 4 for line in LENGTHS.values()),
]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_requests_are_read_as_the_parser_alone_would_read_them(data: st.DataObject) -> None:
    """Several requests on two connections, with odd heads among them, in pieces."""
    lines = data.draw(st.lists(st.sampled_from(ODD_LINES), min_size=1, max_size=3))
    targets = st.sampled_from(
        [b"/graphql", b"/a%20b", b"/a?b=c", b"/a?", b"http://localhost/x", b"*", b"/a#b", b"/\xff"]
    )
    methods = st.sampled_from([b"POST", b"GET", b"DELETE"])
    first = st.builds(b"%b %b HTTP/1.1\r\n".__mod__, st.tuples(methods, targets))
    first_lines = data.draw(st.lists(first, min_size=1, max_size=2))
    requests = [
        data.draw(st.sampled_from(first_lines))
        + data.draw(st.sampled_from(lines))
        + data.draw(st.sampled_from([b"", b"Content-Length: %d\r\n" % size, b"content-length:%d\r\n" % size]))
        + b"\r\n"
        + b"b" * size
        for size in data.draw(st.lists(st.integers(0, 12), min_size=2, max_size=6))
    ]
    whole = b"".join(requests)
    if data.draw(st.booleans()):
        places = sorted(data.draw(st.sets(st.integers(1, len(whole) - 1), max_size=4)))
        pieces = [whole[start:end] for start, end in zip([0, *places], [*places, len(whole)], strict=True)]
    else:
        pieces = requests

    async def both(heads: KnownHeads) -> list[Any]:
        return [await exchange(heads, *pieces), await exchange(heads, *pieces)]

    assert asyncio.run(both(KnownHeads())) == asyncio.run(both(Forgetful()))
