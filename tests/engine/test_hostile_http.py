"""HTTP clients that mean harm, against a real server: what one makes it hold, that it comes back, who notices."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.attack import HELD_BYTES_MAX, STANDSTILL_MS_MAX, attack, longest_standstill_ms
from tests.engine.client import Client, connect
from tests.engine.engine_server import EngineServer
from tests.transports.live_server import frame
from tests.transports.tokens import SECRET, token

pytestmark = pytest.mark.alone

StartServer = Callable[..., Any]
SHORTEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"POST /api/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = (
    b"GET /graphql?query=subscription%7Bmessages(channelId:%22general%22)%7Bcontent%7D%7D HTTP/1.1\r\n"
    b"Host: localhost\r\nAccept: text/event-stream\r\n\r\n"
)
FEW_BYTES_MAX = 4_000_000
"""What may come back late: the allocator's reserve, and the probe's own posts."""


async def send_for(client: Client, data: bytes, seconds: float) -> int:
    """Sends the same again and again, as fast as the server takes it; returns how many bytes it took."""
    sent = 0
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(seconds):
            while True:
                await client.send_bytes(data)
                sent += len(data)
    return sent


@pytest.mark.parametrize("reads", [False, True], ids=["and does not read", "and reads"])
async def test_requests_sent_ahead_without_end_hold_no_memory(start_server: StartServer, reads: bool) -> None:
    server: EngineServer = await start_server()
    async with attack(server):
        memory = server.memory_bytes
        clients = [Client(await connect(server.port)) for _ in range(4)]

        async def read(client: Client) -> None:
            with contextlib.suppress(OSError):
                while await asyncio.get_running_loop().sock_recv(client.sock, 262_144):
                    pass

        readers = [asyncio.create_task(read(client)) for client in clients if reads]
        await asyncio.gather(*(send_for(client, SHORTEST * 2_000, 3) for client in clients))
        assert server.memory_bytes - memory < HELD_BYTES_MAX
        for reader in readers:
            reader.cancel()
        for client in clients:
            client.reset()


async def test_many_connections_that_sent_ahead_and_are_gone_leave_nothing(start_server: StartServer) -> None:
    server: EngineServer = await start_server()

    async def round_() -> None:
        clients = [Client(await connect(server.port)) for _ in range(300)]
        for client in clients:
            await client.send_bytes(SHORTEST * 50)
        for client in clients:
            client.reset()
        await server.until(lambda seen: seen["raqcoon_tasks"] < 50)

    await round_()
    async with attack(server):
        memory = server.memory_bytes
        for _ in range(3):
            await round_()
        assert server.memory_bytes - memory < FEW_BYTES_MAX


BESIDE_THE_DATA = {
    "trailers": (CHUNKED + b"1\r\na\r\n0\r\n", b"x: " + b"y" * 100 + b"\r\n"),
    "one trailer": (CHUNKED + b"1\r\na\r\n0\r\nx: ", b"y" * 100),
    "extensions": (CHUNKED, b"1;" + b"x" * 1_000 + b"\r\na\r\n"),
    "one extension": (CHUNKED + b"1;", b"x" * 100),
    "white space": (b"GET /healthz HTTP/1.1\r\nx:", b" " * 100),
    "empty lines": (b"\r\n", b"\r\n" * 50),
    "short headers": (b"GET /healthz HTTP/1.1\r\n", b"x:\r\n" * 25),
    "folded header": (b"GET /healthz HTTP/1.1\r\nx: y", b"\r\n y" * 25),
}


@pytest.mark.parametrize("name", BESIDE_THE_DATA)
async def test_what_is_no_data_is_bounded_and_its_sender_told(start_server: StartServer, name: str) -> None:
    opening, more = BESIDE_THE_DATA[name]
    server: EngineServer = await start_server()
    async with attack(server):
        memory = server.memory_bytes
        client = Client(await connect(server.port))
        await client.send_bytes(opening)
        await send_for(client, more * 100, 10)
        assert server.memory_bytes - memory < HELD_BYTES_MAX
        with contextlib.suppress(OSError):  # What it sent beyond resets the connection, sometimes the answer with it.
            said = await asyncio.get_running_loop().sock_recv(client.sock, 4_096)
            assert said.split()[1] in (b"400", b"431")
        client.sock.close()


LENGTH, PART = 1_000_000, b"x" * 900_000
UNFINISHED = {
    "bodies": CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: %d" % LENGTH) + PART,
    "chunked bodies": CHUNKED + b"%x\r\n" % LENGTH + PART,
    "WebSocket frames": b"\x81\xff" + LENGTH.to_bytes(8, "big") + bytes(4) + PART,
    "WebSocket fragments": b"\x01" + frame(PART, opcode=1)[1:],
    "sent ahead": STREAM + SHORTEST * 9_000,
}


async def test_what_all_connections_hold_unfinished_is_bounded(start_server: StartServer) -> None:
    server: EngineServer = await start_server(max_unfinished_bytes=8_388_608)
    for way, sent in UNFINISHED.items():
        clients: list[Client] = []

        async def one(way: str = way, sent: bytes = sent, clients: list[Client] = clients) -> None:
            if way.startswith("WebSocket"):
                client = await Client.open(server.port, "/api/ws/general", subprotocol=None)
            else:
                client = Client(await connect(server.port))
            clients.append(client)
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await client.send_bytes(sent)

        async with attack(server):
            memory = server.memory_bytes
            await asyncio.gather(*(one() for _ in range(60)))
            assert server.memory_bytes - memory < 8_388_608 + HELD_BYTES_MAX, way
            await server.post("short")  # Whoever is short goes on.
            for client in clients:
                client.reset()
        await server.post("x" * 30_000)


def graphql_post(values: bytes) -> bytes:
    body = b'{"query":"{ __typename }","variables":{"l":[' + values[:-1] + b"]}}"
    return (
        b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )


ATTACKS_ON_THE_LOOP = {
    "requests ahead": SHORTEST * 10_000,
    "chunks of one byte": CHUNKED + b"1\r\na\r\n" * 40_000,
    "empty lines": b"\r\n" * 30_000,
    "short headers": b"GET /healthz HTTP/1.1\r\n" + b"x:\r\n" * 16_000,
    "many values": graphql_post(b'"x",' * 250_000),
    "many lists": graphql_post(b"[]," * 340_000),
}


@pytest.mark.parametrize("name", ATTACKS_ON_THE_LOOP)
async def test_nobody_stands_still_for_one_address(start_server: StartServer, name: str) -> None:
    server: EngineServer = await start_server()

    async def storm() -> None:
        async def one() -> None:
            for _ in range(2):
                client = Client(await connect(server.port))
                await send_for(client, ATTACKS_ON_THE_LOOP[name], 0.7)
                client.reset()

        await asyncio.gather(*(one() for _ in range(20)))

    assert await longest_standstill_ms(server, storm) <= STANDSTILL_MS_MAX


async def exchange(port: int, *sent: bytes, half_close: bool = False) -> bytes:
    """What the server answers until it closes, or has said nothing for a moment."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for each in sent:
        writer.write(each)
        await writer.drain()
    if half_close:
        writer.write_eof()
    received = b""
    with contextlib.suppress(TimeoutError, ConnectionError):
        while data := await asyncio.wait_for(reader.read(65_536), 20 if half_close else 1):
            received += data
    writer.close()
    return received


def chunked_post(body: dict[str, object], trailers: str, headers: str = "") -> bytes:
    data = json.dumps(body).encode()
    return (
        f"POST /api/messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode() + b"%x;a=b\r\n%b\r\n0\r\n%b\r\n" % (len(data), data, trailers.encode())


async def test_trailer_is_no_header(start_server: StartServer) -> None:
    server: EngineServer = await start_server(auth="jwt", jwt_secret=SECRET)
    body = {"channel_id": "c", "author": "ann", "content": "x"}
    said = await exchange(server.port, chunked_post(body, f"Authorization: Bearer {token()}\r\n"))
    assert said.split()[1] == b"401"
    said = await exchange(server.port, chunked_post(body, "", f"Authorization: Bearer {token()}\r\n"))
    assert said.split()[1] == b"200"


async def test_trailer_of_one_request_is_no_header_of_the_next(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    body = {"channel_id": "c", "author": "ann", "content": "x"}
    both = chunked_post(body, "X-Request-ID: of-a-trailer\r\n") + SHORTEST
    said = await exchange(server.port, both)
    assert said.count(b"HTTP/1.1 200") == 2
    assert b"of-a-trailer" not in said


async def test_forwarded_address_in_a_trailer_overrides_no_proxy(start_server: StartServer) -> None:
    # What HAProxy with the lines of `deploy/haproxy.cfg` sends on: its own header, and the client's trailers.
    server: EngineServer = await start_server(trusted_proxies="127.0.0.1", posts_per_second=2)
    answers = []
    for number in range(8):
        body = {"channel_id": "c", "author": f"a{number}", "content": "x"}
        trailer = f"X-Forwarded-For: 198.51.100.{number}\r\n"
        answers.append(await exchange(server.port, chunked_post(body, trailer, PROXY), half_close=True))
        if b" 429 " in answers[-1].split(b"\r\n")[0]:
            break
    else:
        pytest.fail("eight posts of one address in a moment, where two a second are allowed")


PROXY = "X-Forwarded-For: 203.0.113.9\r\n"
POST = b'{"channel_id":"half","author":"ann","content":"closed"}'
WHOLE = {
    "rest": b"POST /api/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(POST), POST),
    "rest chunked": chunked_post({"channel_id": "half", "author": "ann", "content": "closed"}, ""),
    "rest read": b"GET /api/messages?channel_id=half HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "graphql": b"POST /graphql HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    b"Content-Length: 26\r\n\r\n"
    b'{"query":"{ __typename }"}',
    "graphql read": b"GET /graphql?query=%7B__typename%7D HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "page": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "metrics": b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "of HTTP/1.0": b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n",
}


async def test_client_that_half_closes_gets_its_answer(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    for name, request in WHOLE.items():
        said = await exchange(server.port, request, half_close=True)
        assert said.startswith(b"HTTP/1.1 200 "), (name, said[:200])
    # Several at once too, each in its turn.
    said = await exchange(server.port, b"".join(WHOLE.values()), half_close=True)
    assert said.count(b"HTTP/1.1 200 ") == len(WHOLE)
    # Half a request is none.
    assert await exchange(server.port, WHOLE["rest"][:-3], half_close=True) == b""
    await server.until_empty()


@pytest.mark.parametrize("accept", ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0"])
async def test_event_stream_is_over_when_its_client_half_closes(start_server: StartServer, accept: str) -> None:
    server: EngineServer = await start_server()
    query = "subscription%7Bmessages(channelId:%22general%22)%7Bcontent%7D%7D"
    request = f"GET /graphql?query={query} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()
    # At once, while it runs, and with bytes behind the request that will never be read.
    assert (await exchange(server.port, request, half_close=True)).startswith(b"HTTP/1.1 200 ")
    for behind in (b"", SHORTEST * 10):
        client = Client(await connect(server.port))
        await client.send_bytes(request + behind)
        await server.until(lambda seen: seen["raqcoon_connections{stream}"] == 1)
        client.sock.shutdown(socket.SHUT_WR)
        await server.until_empty()
        client.sock.close()


NO_HANDSHAKE = {
    "length": "GET /graphql HTTP/1.1\r\nContent-Length: 5\r\n",
    "chunked": "GET /graphql HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
    "long header": f"GET /graphql HTTP/1.1\r\nx: {'y' * 9_000}\r\n",
    "many headers": "GET /graphql HTTP/1.1\r\n" + "x: y\r\n" * 200,
    "posted": "POST /graphql HTTP/1.1\r\n",
    "old": "GET /graphql HTTP/1.0\r\n",
}


async def test_upgrade_that_is_no_websocket_is_answered_and_its_place_free_again(start_server: StartServer) -> None:
    server: EngineServer = await start_server(max_connections_per_address=3)
    for name, lines in NO_HANDSHAKE.items():
        for _ in range(3):
            request = (
                f"{lines}Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
            )
            said = await exchange(server.port, request.encode())
            assert said.split()[1][:1] in (b"4", b"1"), (name, said)
    await server.until_empty()


async def test_upgrade_that_is_not_offered_is_ignored(start_server: StartServer) -> None:
    # As Java's HTTP client begins, with posts too.
    server: EngineServer = await start_server()
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    request = WHOLE["rest"].replace(b"Content-Length", upgrade + b"Content-Length")
    said = await exchange(server.port, request + WHOLE["rest"].replace(b"closed", b"behind"), SHORTEST)
    assert said.count(b"HTTP/1.1 200 ") == 3
    stored = (await server.http.get("/api/messages", params={"channel_id": "half"})).json()["messages"]
    assert [item["content"] for item in stored] == ["closed", "behind"]
