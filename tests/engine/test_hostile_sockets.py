"""Clients that mean harm, against a real server: afterwards nothing of them is left, and meanwhile nobody noticed."""

import asyncio
import contextlib
import os
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.attack import HELD_BYTES_MAX, STANDSTILL_MS_MAX, attack, longest_standstill_ms
from tests.engine.client import SUBSCRIBE, Client, connect
from tests.engine.engine_server import EngineServer
from tests.engine.kernel import go_deaf, holds_connection, send_queue_bytes
from tests.transports.live_server import frame

pytestmark = pytest.mark.alone

StartServer = Callable[..., Any]


async def test_subscribe_and_complete_as_fast_as_it_goes(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    async with attack(server):
        client = await Client.open(server.port)
        for round_ in range(10):
            frames = []
            for number in range(1_000):
                id_ = f"{round_}-{number}"
                frames.append(client.operation(id_, SUBSCRIBE, channel=f"c{number % 10}", after=None))
                frames.append({"id": id_, "type": "complete"})
            await client.send(*frames)
        await client.settle()
        client.sock.close()


async def test_documents_that_are_never_the_same(start_server: StartServer) -> None:
    server: EngineServer = await start_server(max_cohorts_per_client=1_000)
    async with attack(server):
        clients = [await Client.open(server.port) for _ in range(8)]
        for number, client in enumerate(clients):
            documents = (
                f'subscription S{number}x{each} {{ messages(channelId: "busy") {{ a{each}: content sequence }} }}'
                for each in range(100)
            )
            await client.send(*(client.operation(str(each), text) for each, text in enumerate(documents)))
        for client in clients:
            await client.settle()
        assert (await server.metrics())["raqcoon_cohorts"] == 801
        # Every cohort executes for itself, and the probe lives on.
        for number in range(5):
            await server.post(f"{number}", channel="busy")
        for client in clients:
            client.reset()


async def test_documents_that_are_never_the_same_and_never_valid(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    async with attack(server):
        client = await Client.open(server.port)
        deep = '{ channel(id: "x") ' * 1 + "{ messages { edges { node { nothing%d } } } } }"
        await client.send(*(client.operation(str(each), deep % each) for each in range(500)))
        for _ in range(500):
            assert (await client.next_frame())["type"] == "error"
        client.sock.close()


async def test_pings_without_reading_hold_no_memory(start_server: StartServer) -> None:
    server: EngineServer = await start_server(slow_subscriber_timeout_seconds=3)
    async with attack(server):
        client = await Client.open(server.port, buffer_bytes=4_096)
        pings = frame(b"x" * 120, opcode=9) * 2_000
        memory = server.memory_bytes
        # The client's kernel takes no answers, and the server reads on: 30 MB of pings owe 28 MB of pongs.
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(8):
                for _ in range(120):
                    await client.send_bytes(pings)
        assert server.memory_bytes - memory < HELD_BYTES_MAX
        client.reset()


async def test_protocol_pings_without_reading_stop_being_read(start_server: StartServer) -> None:
    server: EngineServer = await start_server(slow_subscriber_timeout_seconds=2)
    async with attack(server):
        client = await Client.open(server.port, buffer_bytes=4_096)
        ping = frame('{"type":"ping","payload":{"a":"' + "x" * 1_000 + '"}}') * 200
        memory = server.memory_bytes
        sent = 0
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(1.5):
                while True:
                    await client.send_bytes(ping)
                    sent += len(ping)
        assert server.memory_bytes - memory < HELD_BYTES_MAX
        # No answer fits, so it is cut; it did not have to be read to be noticed.
        await server.until(lambda seen: seen["raqcoon_connections_cut_total{slow}"] == 1)
        client.sock.close()


@pytest.mark.parametrize("fragment", [b"", b"ab"], ids=["empty", "short"])
async def test_fragments_without_end_hold_no_memory(start_server: StartServer, fragment: bytes) -> None:
    server: EngineServer = await start_server()
    async with attack(server):
        client = await Client.open(server.port)
        memory = server.memory_bytes
        begun = bytes([0x01]) + frame(fragment, opcode=1)[1:]
        more = bytes([0x00]) + frame(fragment, opcode=0)[1:]
        await client.send_bytes(begun)
        with contextlib.suppress(OSError):
            for _ in range(60):
                await client.send_bytes(more * 5_000)
        assert server.memory_bytes - memory < HELD_BYTES_MAX
        client.reset()


async def test_fragments_of_one_byte_make_nobody_stand_still(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    begun = bytes([0x01]) + frame(b"a", opcode=1)[1:]
    more = bytes([0x00]) + frame(b"a", opcode=0)[1:]

    async def storm() -> None:
        async def one() -> None:
            async with await Client.open(server.port, "/api/ws/general", subprotocol=None) as client:
                with contextlib.suppress(OSError, TimeoutError):
                    async with asyncio.timeout(1.5):
                        await client.send_bytes(begun + more * 40_000)
                        await client.send_bytes(more * 400_000)

        await asyncio.gather(*(one() for _ in range(20)))

    assert await longest_standstill_ms(server, storm) <= STANDSTILL_MS_MAX


HOSTILE_BYTES = {
    "not masked": (b"\x81\x02{}", 1002),
    "fragmented control frame": (bytes([0x09]) + frame(b"x", opcode=9)[1:], 1002),
    "long control frame": (frame(b"x" * 126, opcode=9), 1002),
    "64-bit length": (b"\x81\xff" + (2**62).to_bytes(8, "big") + b"\0\0\0\0", 1009),
    "64-bit length with its top bit": (b"\x81\xff" + b"\xff" * 8 + b"\0\0\0\0", 1009),
    "invalid UTF-8": (frame(b"\xc3\x28", opcode=1), 1007),
    "surrogate in UTF-8": (frame(b"\xed\xa0\x80", opcode=1), 1007),
    "reserved bits": (b"\xf1\x80\0\0\0\0", 1002),
    "noise": (b"\xff" * 4_096, 1002),
}


async def test_bytes_that_are_no_frames_end_their_socket_alone(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    async with attack(server):
        for name, (data, code) in HOSTILE_BYTES.items():
            for acknowledged in (False, True):
                for path, subprotocol in (("/graphql", "graphql-transport-ws"), ("/api/ws/general", None)):
                    client = await Client.open(server.port, path, subprotocol=subprotocol, init=acknowledged)
                    if acknowledged and subprotocol:
                        await client.subscribe()
                        assert (await client.next_frame())["type"] == "pong"
                    await client.send_bytes(data)
                    assert await client.until_closed() == code, (name, path)
                    client.sock.close()


def bomb() -> bytes:
    """A frame of 100 kB that unpacks to 100 MB."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -12)
    packed = packer.compress(b" " * 100_000_000) + packer.flush(zlib.Z_SYNC_FLUSH)
    return frame(packed.removesuffix(b"\0\0\xff\xff"), opcode=1)


async def test_message_compressed_to_nothing_is_refused_by_its_true_size(start_server: StartServer) -> None:
    server: EngineServer = await start_server(websocket_compression="true")
    packed = await asyncio.to_thread(bomb)
    async with attack(server):
        for _ in range(3):
            client = await Client.open(
                server.port,
                init=False,
                headers=("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12",),
            )
            memory = server.memory_bytes
            with contextlib.suppress(OSError):
                await client.send_bytes(bytes([packed[0] | 0x40]) + packed[1:])
            assert await client.until_closed() in (1009, 1006)
            assert server.memory_bytes - memory < HELD_BYTES_MAX
            client.sock.close()


async def test_reset_in_every_state_leaves_nothing(start_server: StartServer) -> None:
    server: EngineServer = await start_server()

    async def nothing_sent() -> Client:
        return Client(await connect(server.port))

    async def half_a_request() -> Client:
        client = await nothing_sent()
        await client.send_bytes(b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgr")
        return client

    async def request_sent() -> Client:
        client = await nothing_sent()
        await client.send_bytes(
            b"GET /graphql HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
        )
        return client

    async def not_initialised() -> Client:
        return await Client.open(server.port, init=False)

    async def half_a_frame() -> Client:
        client = await Client.open(server.port)
        await client.send_bytes(b"\x81\xfe\x01")
        return client

    async def subscribing() -> Client:
        client = await Client.open(server.port)
        await client.send(*(client.operation(str(n), SUBSCRIBE, channel=f"{n}", after=None) for n in range(20)))
        return client

    async def catching_up() -> Client:
        client = await Client.open(server.port, buffer_bytes=4_096)
        await client.subscribe(after=first["cursor"])
        return client

    async def posting() -> Client:
        client = await Client.open(server.port)
        text = 'mutation { postMessage(channelId: "general", author: "a", content: "x") { sequence } }'
        await client.send(*(client.operation(str(n), text) for n in range(10)))
        return client

    async def half_a_post() -> Client:
        client = await nothing_sent()
        await client.send_bytes(b"POST /api/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        return client

    async def streaming() -> Client:
        client = await nothing_sent()
        query = b"subscription%7Bmessages(channelId:%22general%22)%7Bcontent%7D%7D"
        await client.send_bytes(
            b"GET /graphql?query=" + query + b" HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"
        )
        return client

    async def plain_socket() -> Client:
        return await Client.open(server.port, "/api/ws/general", subprotocol=None)

    first = await server.post("first")
    await server.post_many(500, content=lambda number: "x" * 2_000)
    states = (
        nothing_sent, half_a_request, request_sent, not_initialised, half_a_frame, subscribing, catching_up, posting,
        half_a_post, streaming, plain_socket,
    )  # fmt: skip
    async with attack(server):
        for _ in range(5):
            for state in states:
                (await state()).reset()
        clients = [await state() for _ in range(5) for state in states]
        for client in clients:
            client.reset()


async def test_client_that_reads_a_byte_a_second_is_cut(start_server: StartServer) -> None:
    server: EngineServer = await start_server(slow_subscriber_timeout_seconds=2)
    first = await server.post("first")
    await server.post_many(1_000, content=lambda number: "x" * 2_000)
    async with attack(server):
        client = await Client.open(server.port, buffer_bytes=4_096)
        await client.subscribe(after=first["cursor"])

        async def sip() -> None:
            while await asyncio.get_running_loop().sock_recv(client.sock, 1):
                await asyncio.sleep(0.2)

        sipping = asyncio.create_task(sip())
        await server.until(lambda seen: seen["raqcoon_connections_cut_total{slow}"] == 1)
        sipping.cancel()
        client.sock.close()


async def test_stream_that_is_never_read_is_cut(start_server: StartServer) -> None:
    server: EngineServer = await start_server(slow_subscriber_timeout_seconds=1)
    await server.post_many(2_000, content=lambda number: "x" * 4_000)
    head = (await server.http.get("/api/messages", params={"channel_id": "general", "limit": 1})).json()["messages"][0]
    async with attack(server):
        clients = []
        for accept in ("text/event-stream", "multipart/mixed;subscriptionSpec=1.0"):
            client = Client(await connect(server.port, buffer_bytes=4_096))
            query = "subscription($c:Cursor){messages(channelId:%22general%22,after:$c){content}}".replace("{", "%7B")
            variables = f"%7B%22c%22:%22{head['cursor']}%22%7D"
            await client.send_bytes(
                f"GET /graphql?query={query.replace('}', '%7D')}&variables={variables} HTTP/1.1\r\n"
                f"Host: localhost\r\nAccept: {accept}\r\n\r\n".encode()
            )
            clients.append(client)
        await server.until(lambda seen: seen["raqcoon_connections{stream}"] == 2)
        assert all(send_queue_bytes(server.port, client.sock.getsockname()[1]) < 400_000 for client in clients)
        await server.until_empty(1)
        async with asyncio.timeout(20):
            while any(holds_connection(server.port, client.sock.getsockname()[1]) for client in clients):
                await asyncio.sleep(0.1)
        for client in clients:
            client.sock.close()


@pytest.mark.parametrize("accept", ["text/event-stream", "multipart/mixed;subscriptionSpec=1.0"])
async def test_stream_whose_client_is_gone_without_a_word_ends(start_server: StartServer, accept: str) -> None:
    server: EngineServer = await start_server(slow_subscriber_timeout_seconds=1)
    async with attack(server):
        client = Client(await connect(server.port))
        query = "subscription%7Bmessages(channelId:%22general%22)%7Bcontent%7D%7D"
        await client.send_bytes(
            f"GET /graphql?query={query} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode()
        )
        await server.until(lambda seen: seen["raqcoon_connections{stream}"] == 1)
        assert holds_connection(server.port, client.sock.getsockname()[1])
        go_deaf(client.sock)
        await server.post("to nobody")
        await server.until_empty(1)
        async with asyncio.timeout(20):
            while holds_connection(server.port, client.sock.getsockname()[1]):
                await asyncio.sleep(0.1)
        client.sock.close()


async def test_random_bytes_for_a_while_change_nothing(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    async with attack(server):
        for _ in range(100):
            client = Client(await connect(server.port))
            with contextlib.suppress(OSError):
                await client.send_bytes(os.urandom(512) + b"\r\n\r\n" + os.urandom(64))
            client.reset()
