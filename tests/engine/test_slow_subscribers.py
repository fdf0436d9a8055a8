"""A client that does not read: what it costs, that it misses nothing, and how the one that never comes back is cut."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.engine.client import Client
from tests.engine.engine_server import EngineServer
from tests.engine.kernel import send_queue_bytes

pytestmark = pytest.mark.alone

StartServer = Callable[..., Any]
COST_BYTES_MAX = 1_000_000
"""What one client that does not read may cost the server, the kernel's share included."""
SMALL_BUFFER_BYTES = 32_768
MESSAGES = 4_000


def content(number: int) -> str:
    return f"{number} " + "x" * 400


def long_content(number: int) -> str:
    return f"{number} " + "x" * 2_000


async def stuck_clients(server: EngineServer, count: int, after: str) -> list[Client]:
    """Clients that subscribed and read nothing since."""
    clients = []
    for _ in range(count):
        client = await Client.open(server.port, buffer_bytes=SMALL_BUFFER_BYTES)
        await client.subscribe(after=after)
        assert (await client.next_frame())["type"] == "pong"
        clients.append(client)
    return clients


async def pass_messages(server: EngineServer, reader: Client, first: int, make: Callable[[int], str]) -> str:
    """Posts `MESSAGES` messages while the reader reads them; returns the last one's cursor."""
    last = first + MESSAGES - 1
    reading = asyncio.create_task(reader.read_run(first, last))
    await server.post_many(MESSAGES, content=make)
    return await reading


@pytest.mark.parametrize("on", ["raqcoon", "uvicorn", "hypercorn"])
async def test_clients_that_do_not_read_cost_their_buffers_and_miss_nothing(start_server: StartServer, on: str) -> None:
    server: EngineServer = await start_server(on, slow_subscriber_timeout_seconds=120)
    # Elsewhere the kernel takes 4 MB for a client before anybody learns that it is slow.
    make, stuck = (content, 20) if on == "raqcoon" else (long_content, 5)
    async with await Client.open(server.port) as fast:
        await fast.subscribe()
        head = await pass_messages(server, fast, 1, make)  # Caches fill.
        begun = server.memory_bytes
        head = await pass_messages(server, fast, MESSAGES + 1, make)
        growth = server.memory_bytes - begun  # What the log's page cache takes without any slow client.
        clients = await stuck_clients(server, stuck, head)
        begun = server.memory_bytes
        await pass_messages(server, fast, 2 * MESSAGES + 1, make)
        growth_beside_stuck = server.memory_bytes - begun
        seen = await server.metrics()
        assert seen["raqcoon_slow_falls_total"] >= stuck
        assert seen["raqcoon_subscribers_behind"] == stuck
        queued = [send_queue_bytes(server.port, client.sock.getsockname()[1]) for client in clients]
        assert all(queued), "the kernel holds something for each of them"
        cost = max(0, growth_beside_stuck - growth) / stuck + (max(queued) if on == "raqcoon" else 0)
        assert cost < COST_BYTES_MAX, (cost, queued)
        last = 3 * MESSAGES
        await asyncio.gather(*(client.read_run(2 * MESSAGES + 1, last) for client in clients))
        seen = await server.until(lambda figures: figures["raqcoon_subscribers_behind"] == 0)
        # They came back together: reads are shared, so far fewer than a read a page a client.
        reads = seen["raqcoon_log_reads_total"]
        assert reads < seen["raqcoon_catch_up_pages_total"] / 4
        item = await server.post("live again")
        for client in (*clients, fast):
            assert (await client.next_message())["sequence"] == item["sequence"] == last + 1
        assert (await server.metrics())["raqcoon_log_reads_total"] == reads
        for client in clients:
            client.sock.close()
    await server.until_empty()


async def test_client_without_progress_is_cut_with_1006_and_resumes(start_server: StartServer) -> None:
    server: EngineServer = await start_server(slow_subscriber_timeout_seconds=1)
    first = await server.post("first")
    (client,) = await stuck_clients(server, 1, first["cursor"])
    posting = asyncio.create_task(server.post_many(2_000, content=content))
    seen = await server.until(lambda figures: figures["raqcoon_connections_cut_total{slow}"] == 1)
    assert seen["raqcoon_connections_cut_total{silent}"] == 0
    await posting
    cursor, expected = first["cursor"], 2
    with contextlib.suppress(ConnectionError):
        while True:
            message = await client.next_message()
            assert message["sequence"] == expected
            cursor, expected = message["cursor"], expected + 1
    assert client.closed == 1006
    assert 2 < expected < 2_001, "it was cut in the middle"
    client.sock.close()
    await server.until_empty()
    async with await Client.open(server.port) as again:
        await again.subscribe(after=cursor)
        await again.read_run(expected, 2_001)
    await server.until_empty()
    assert " code=1006" in server.log()


async def test_client_that_reads_slowly_is_pinged_and_never_cut(start_server: StartServer) -> None:
    server: EngineServer = await start_server(slow_subscriber_timeout_seconds=1.5, keepalive_seconds=0.4)
    first = await server.post("first")
    (client,) = await stuck_clients(server, 1, first["cursor"])
    posting = asyncio.create_task(server.post_many(5_000, content=content))
    started = time.monotonic()
    sequence = 2
    # A fifth of a megabyte a second: the buffer falls below its mark several times a second, and is never empty.
    while time.monotonic() - started < 6:
        await client.read_run(sequence, sequence + 49)
        sequence += 50
        await asyncio.sleep(0.12)
    await posting
    seen = await server.metrics()
    assert seen["raqcoon_subscribers_behind"] == 1
    assert seen["raqcoon_connections_cut_total{slow}"] == seen["raqcoon_connections_cut_total{silent}"] == 0
    await client.read_run(sequence, 5_001)
    client.sock.close()
    await server.until_empty()


async def test_client_that_says_nothing_is_cut_with_1006_not_1011(start_server: StartServer) -> None:
    server: EngineServer = await start_server(keepalive_seconds=0.4)
    client = await Client.open(server.port)
    await client.subscribe()
    seen = await server.until(lambda figures: figures["raqcoon_connections_cut_total{silent}"] == 1)
    assert seen["raqcoon_connections_cut_total{slow}"] == 0
    while True:
        try:
            opcode, _ = await client._next()
        except ConnectionError:
            break
        assert opcode in (1, 9), "data and pings, but no close frame"
    assert client.closed == 1006
    client.sock.close()
    await server.until_empty()
