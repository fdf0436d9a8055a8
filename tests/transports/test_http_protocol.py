"""HTTP connections of hostile clients, over raw sockets against a real server: deadlines, headers, admission."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from schema.operations import Operations
from tests.fakes import memory_chat
from tests.transports.live_server import RawSocket, Refused, serve, until
from transports.app import build_app
from transports.gate.addresses import TrustedProxies
from transports.gate.admission import Admission
from transports.gate.connections import Connections
from transports.serving import http_protocol
from transports.serving.held_bytes import HeldBytes
from transports.serving.http_parsing import HEADERS_BYTES_MAX
from transports.serving.http_protocol import HEADERS_SECONDS, LINGER_SECONDS, REQUEST_SECONDS, HttpProtocol

SLOW_SECONDS = 60.0
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n"


class Clock:
    """Lets the deadlines of every connection pass without waiting for them."""

    def __init__(self) -> None:
        self.connections: list[HttpProtocol] = []

    def protocol(self, **options: Any) -> Any:
        clock = self

        class Noted(HttpProtocol):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                clock.connections.append(self)

        return partial(Noted, **options)

    def pass_seconds(self, seconds: float) -> None:
        for connection in list(self.connections):
            if connection.transport is not None and connection in connection.connections:
                connection.look(connection.loop.time() + seconds, SLOW_SECONDS)


@asynccontextmanager
async def http_server(admission: Admission | None = None, **options: Any) -> AsyncIterator[tuple[int, Clock]]:
    clock = Clock()
    async with memory_chat() as chat:
        app = build_app(chat, Operations(), **options)
        async with serve(app, http=clock.protocol(admission=admission)) as port:
            yield port, clock
    assert admission is None or (admission.inside, admission.waiting_to_hear) == (0, 0)


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(port: int, sent: bytes = b"") -> Stream:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    return reader, writer


async def answer(stream: Stream) -> bytes:
    """Everything until the server ends the connection."""
    reader, writer = stream
    received = await reader.read()
    writer.close()
    return received


async def ended_silently(stream: Stream) -> None:
    with contextlib.suppress(ConnectionError):
        assert await answer(stream) == b""


async def taken(clock: Clock, count: int = 1) -> None:
    """Waits until the server has seen the first bytes of so many connections."""
    await until(lambda: sum(bool(c._headers_bytes or c._in_body) for c in clock.connections) >= count)


# -- deadlines -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: localhost\r\nx: y", b"\r\n"])
async def test_headers_that_do_not_come_end_in_408(sent: bytes) -> None:
    async with http_server() as (port, clock):
        stream = await connect(port, sent)
        await taken(clock)
        clock.pass_seconds(HEADERS_SECONDS - 0.5)
        assert not stream[0].at_eof()
        clock.pass_seconds(HEADERS_SECONDS + 0.1)
        assert (await answer(stream)).startswith(b"HTTP/1.1 408 ")


async def test_headers_that_come_byte_by_byte_get_no_more_time() -> None:
    async with http_server() as (port, clock):
        stream = await connect(port, b"G")
        await taken(clock)
        (connection,) = clock.connections
        since = connection._waiting_since
        for byte in (b"E", b"T"):
            size = connection._headers_bytes
            stream[1].write(byte)
            await until(lambda size=size: connection._headers_bytes > size)  # type: ignore[misc]
        assert connection._waiting_since == since
        clock.pass_seconds(HEADERS_SECONDS + 0.1)
        assert b" 408 " in await answer(stream)


async def test_connection_that_says_nothing_is_closed_without_a_word() -> None:
    async with http_server() as (port, clock):
        stream = await connect(port)
        await until(lambda: len(clock.connections) == 1 and clock.connections[0].transport is not None)
        clock.pass_seconds(HEADERS_SECONDS + 0.1)
        assert await answer(stream) == b""


async def test_body_that_does_not_come_is_cut() -> None:
    async with http_server() as (port, clock):
        stream = await connect(
            port,
            b"POST /api/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 50\r\n\r\n{",
        )
        await taken(clock)
        clock.pass_seconds(REQUEST_SECONDS - 0.5)
        assert not stream[0].at_eof()
        clock.pass_seconds(REQUEST_SECONDS + 0.1)
        await ended_silently(stream)


async def test_connection_kept_alive_is_not_overdue_while_it_asks_nothing_or_waits_for_an_answer() -> None:
    async with http_server() as (port, clock):
        reader, writer = await connect(port, HEALTH)
        await reader.readuntil(b'{"status":"ok"}')
        clock.pass_seconds(3600)
        writer.write(HEALTH)
        assert b"200" in await reader.readuntil(b'{"status":"ok"}')
        writer.write(
            b"GET /graphql?query=subscription%7Bmessages(channelId:%22c%22)%7Bid%7D%7D HTTP/1.1\r\nhost: localhost\r\n"
            b"accept: text/event-stream\r\n\r\n"
        )
        await reader.readuntil(b":\n")
        clock.pass_seconds(3600)
        writer.close()


async def test_client_that_does_not_take_its_answer_is_cut() -> None:
    async with http_server() as (port, clock):
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.setblocking(False)
        await asyncio.get_running_loop().sock_connect(small, ("127.0.0.1", port))
        asset = b"GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n"
        await asyncio.get_running_loop().sock_sendall(small, asset * 2000)
        await until(lambda: bool(clock.connections) and clock.connections[0]._paused_since is not None)
        clock.pass_seconds(SLOW_SECONDS - 1)
        assert not clock.connections[0].transport.is_closing()
        clock.pass_seconds(SLOW_SECONDS + 1)
        assert clock.connections[0].transport.is_closing()
        small.close()


async def test_client_that_was_turned_away_and_does_not_go_is_cut() -> None:
    async with http_server() as (port, clock):
        reader, writer = await connect(port, b"no HTTP\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        assert clock.connections[0] in clock.connections[0].connections
        writer.write(b"more " * 1000)
        clock.pass_seconds(LINGER_SECONDS + 0.1)
        await until(lambda: not clock.connections[0].connections)
        writer.close()


# -- headers -------------------------------------------------------------------------------------------------------


def get(header_bytes: int) -> bytes:
    fixed = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: \r\n\r\n"
    return fixed.replace(b"x: ", b"x: " + b"y" * (header_bytes - len(fixed)))


async def test_headers_of_the_greatest_length_are_read_and_one_byte_more_is_not() -> None:
    async with http_server() as (port, clock):
        for size, status in ((HEADERS_BYTES_MAX, b"200"), (HEADERS_BYTES_MAX + 1, b"431")):
            reader, writer = await connect(port, get(size))
            assert (await reader.readline()).split()[1] == status
            writer.close()
            await until(lambda: not clock.connections[-1].connections)


@pytest.mark.parametrize("endless", [b"GET /" + b"a" * 300_000, b"GET / HTTP/1.1\r\nx: " + b"y" * 300_000])
async def test_headers_without_end_are_not_kept(endless: bytes) -> None:
    async with http_server() as (port, _):
        reader, writer = await connect(port, endless)
        assert (await reader.readline()).split()[1] == b"431"
        writer.close()


async def test_many_small_headers_are_too_many() -> None:
    async with http_server() as (port, _):
        many = b"".join(b"x%d: y\r\n" % number for number in range(20_000))
        reader, writer = await connect(port, b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n" + many + b"\r\n")
        assert (await reader.readline()).split()[1] == b"431"
        writer.close()


# -- admission -----------------------------------------------------------------------------------------------------


async def test_connection_past_the_limit_is_told_and_the_next_after_one_left_is_served() -> None:
    admission = Admission(max_connections=2)
    async with http_server(admission) as (port, _):
        first, second = await connect(port, HEALTH), await connect(port, HEALTH)
        for stream in (first, second):
            await stream[0].readuntil(b'{"status":"ok"}')
        said = await answer(await connect(port, b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"))
        assert said.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 1\r\n" in said
        assert said.endswith(b"This server has its maximum of 2 connections.")
        # Whoever watches the server must not take a full one for a dead one.
        reader, writer = await connect(port, HEALTH)
        assert b"200" in await reader.readline()
        assert b"connection: close" in await reader.read()
        writer.close()
        first[1].close()
        await until(lambda: admission.inside == 1)
        third = await connect(port, HEALTH)
        await third[0].readuntil(b'{"status":"ok"}')
        second[1].close()
        third[1].close()
    assert admission.refused == 2


async def test_websockets_are_counted_with_requests_until_they_close() -> None:
    admission = Admission(max_per_address=2)
    async with http_server(admission) as (port, _):
        plain = await RawSocket.open(port, "/api/ws/c")
        other = await RawSocket.open(port, "/graphql", subprotocol="graphql-transport-ws")
        assert admission.inside == 2
        with pytest.raises(Refused) as refused:
            await RawSocket.open(port, "/api/ws/c")
        assert refused.value.status == 429
        assert "This address has its maximum of 2 connections." in refused.value.head
        await plain.close()
        other.reset()
        await until(lambda: admission.inside == 0)
        await (await RawSocket.open(port, "/api/ws/c")).close()


async def test_connection_past_the_limit_that_says_nothing_is_closed_soon() -> None:
    admission = Admission(max_connections=1)
    async with http_server(admission) as (port, clock):
        first = await connect(port, HEALTH)
        await first[0].readuntil(b'{"status":"ok"}')
        silent = await connect(port)
        await until(lambda: admission.waiting_to_hear == 1)
        clock.pass_seconds(LINGER_SECONDS + 0.1)
        assert await answer(silent) == b""
        await until(lambda: admission.waiting_to_hear == 0)
        first[1].close()


async def test_crowd_past_the_limit_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_protocol, "WAITING_TO_HEAR_MAX", 1)
    admission = Admission(max_connections=1)
    async with http_server(admission) as (port, _):
        first = await connect(port, HEALTH)
        await first[0].readuntil(b'{"status":"ok"}')
        waiting = await connect(port)
        await until(lambda: admission.waiting_to_hear == 1)
        cut = await connect(port)
        await ended_silently(cut)
        await until(lambda: admission.waiting_to_hear == 1)
        for _, writer in (first, waiting):
            writer.close()


async def test_clients_of_a_trusted_proxy_are_counted_apart() -> None:
    proxies = TrustedProxies(["127.0.0.1"])
    connections = Connections(max_per_address=1)
    admission = Admission(max_per_address=1, proxies=proxies)
    async with memory_chat() as chat:
        app = build_app(chat, Operations(), connections=connections, proxies=proxies)
        async with serve(app, http=partial(HttpProtocol, admission=admission)) as port:
            opened = [
                await RawSocket.open(port, "/api/ws/c", headers={"X-Forwarded-For": f"203.0.113.{number}"})
                for number in range(3)
            ]
            with pytest.raises(Refused) as refused:
                await RawSocket.open(port, "/api/ws/c", headers={"X-Forwarded-For": "203.0.113.1"})
            assert refused.value.status == 429
            for each in opened:
                await each.close()


# -- becoming a WebSocket ------------------------------------------------------------------------------------------


def upgrade(path: bytes, host: bytes = b"host: localhost\r\n") -> bytes:
    return (
        b"GET " + path + b" HTTP/1.1\r\n" + host + b"connection: upgrade\r\nupgrade: websocket\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )


async def test_connection_past_the_limit_that_asks_about_health_cannot_become_a_websocket() -> None:
    admission = Admission(max_connections=1)
    async with http_server(admission) as (port, _):
        first = await connect(port, HEALTH)
        await first[0].readuntil(b'{"status":"ok"}')
        said = await answer(await connect(port, upgrade(b"/healthz")))
        assert said.startswith(b"HTTP/1.1 503 ")
        await until(lambda: admission.waiting_to_hear == 0)
        assert admission.inside == 1
        first[1].close()


async def test_handshake_that_waited_behind_a_request_is_held_no_longer() -> None:
    held = HeldBytes()
    async with memory_chat() as chat:
        app = build_app(chat, Operations())
        async with serve(app, http=partial(HttpProtocol, held_bytes=held)) as port:
            reader, writer = await connect(port, HEALTH + upgrade(b"/api/ws/c"))
            await reader.readuntil(b'{"status":"ok"}')
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            assert held.total == 0
            writer.close()


async def test_path_that_is_no_ascii_is_refused_as_a_websocket_too() -> None:
    async with http_server() as (port, _):
        for request in (b"GET /\xff HTTP/1.1\r\nhost: localhost\r\n\r\n", upgrade(b"/api/ws/\xff?\xff")):
            assert (await answer(await connect(port, request))).startswith(b"HTTP/1.1 400 ")


async def test_http_1_0_has_no_upgrades_and_no_100_continue() -> None:
    async with http_server() as (port, _):
        said = await answer(await connect(port, upgrade(b"/healthz").replace(b"HTTP/1.1", b"HTTP/1.0")))
        assert said.startswith(b"HTTP/1.1 200 ")
        said = await answer(
            await connect(
                port,
                b"POST /api/messages HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n"
                b"expect: 100-continue\r\ncontent-length: 2\r\n\r\n{}",
            )
        )
        assert b"100 Continue" not in said
        assert said.startswith(b"HTTP/1.1 4")


# -- where one request ends and the next begins --------------------------------------------------------------------


async def test_answer_without_100_continue_ends_the_connection() -> None:
    # The client may send the body that it announced, or leave it out and send its next request.
    async with http_server() as (port, _):
        said = await answer(
            await connect(
                port,
                b"PUT /healthz HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 1000\r\n\r\n"
                + HEALTH,
            )
        )
        assert b"100 Continue" not in said
        assert said.count(b"HTTP/1.1 ") == 1
        assert b"connection: close" in said


async def test_trailer_that_ends_the_connection_leaves_nobody_waiting() -> None:
    async with http_server() as (port, _):
        chunked = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        said = await answer(await connect(port, chunked + b"0\r\nconnection: close\r\n\r\n" + HEALTH))
        assert said.count(b"HTTP/1.1 200 ") == 1


async def test_absolute_url_without_a_path_asks_for_the_root() -> None:
    async with http_server() as (port, _):
        said = await answer(
            await connect(port, b"GET http://localhost HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        )
        assert b" 400 " not in said.partition(b"\r\n")[0]


# -- what a head must say ------------------------------------------------------------------------------------------

ASK = b"GET /healthz HTTP/1.1\r\n"
HOST_LINES = {
    b"": b"200",  # As earlier versions did.
    b"host: a\r\nhost: a\r\n": b"400",
    b"host: a b\r\n": b"400",
    b"host: a/b\r\n": b"400",
    b"host: a@b\r\n": b"400",
    b"host: a,b\r\n": b"200",  # As odd as it is, a name may hold a comma (RFC 3986).
    b"host: a:x\r\n": b"400",
    b"host: [::1\r\n": b"400",
    b"host: m\xc3\xbcnchen\r\n": b"400",
    b"host:\r\n": b"200",
    b"Host: chat_server-1.example:\r\n": b"200",
    b"HOST: [::1]:8010\r\n": b"200",
    b"host: xn--mnchen-3ya.example:8010\r\n": b"200",
}


@pytest.mark.parametrize("lines", HOST_LINES)
async def test_request_has_one_host_that_may_be_one(lines: bytes) -> None:
    async with http_server(bound_host="0.0.0.0") as (port, _):
        for request in (ASK + lines + b"connection: close\r\n\r\n", upgrade(b"/api/ws/c", lines)):
            reader, writer = await connect(port, request)
            status = (await reader.readline()).split()[1]
            assert status.replace(b"101", b"200") == HOST_LINES[lines]
            writer.close()


async def test_nothing_behind_a_head_that_is_refused_is_taken_for_a_request() -> None:
    async with http_server() as (port, _):
        said = await answer(await connect(port, b"GET /healthz HTTP/1.0\r\n\r\n"))
        assert said.startswith(b"HTTP/1.1 200 ")
        said = await answer(await connect(port, b"GET /healthz HTTP/1.0\r\nhost: a\r\nhost: b\r\n\r\n"))
        assert said.startswith(b"HTTP/1.1 400 ")
        said = await answer(await connect(port, ASK + b"host: a b\r\n\r\n" + HEALTH))
        assert said.count(b"HTTP/1.1 ") == 1


CODINGS = {
    b"chunked": b"200",
    b"Chunked": b"200",
    b", chunked": b"200",
    b"gzip, chunked": b"501",
    b"x, gzip,chunked": b"501",
    b"gzip\r\ntransfer-encoding: chunked": b"501",
    b"chunked, chunked": b"400",
    b"gzip": b"400",
    b"chunked, gzip": b"400",
}


@pytest.mark.parametrize("codings", CODINGS)
async def test_body_of_a_transfer_coding_that_is_not_known_is_refused(codings: bytes) -> None:
    async with http_server() as (port, _):
        head = ASK + b"host: localhost\r\nconnection: close\r\ntransfer-encoding: " + codings + b"\r\n\r\n"
        said = await answer(await connect(port, head + b"0\r\n\r\n"))
        assert said.split()[1] == CODINGS[codings]
        assert said.count(b"HTTP/1.1 ") == 1
