"""Measures what slow subscribers cost, and how long it takes when many clients resume at the same time.

    uv run python -m benchmarks.slow [--messages 100000] [--stuck 20] [--storm 2000]

Prints a Markdown table. The clients are raw sockets, because what matters here are bytes that nobody reads.
"""

import argparse
import asyncio
import contextlib
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.machine import describe
from benchmarks.processes import raise_file_limit
from benchmarks.servers import ROOT
from tests.engine.client import Client
from tests.engine.engine_server import EngineServer
from tests.engine.kernel import send_queue_bytes

STORM_MESSAGES = 1_000
_SEQUENCE = re.compile(rb'"sequence":(\d+)')


def _content(size: int) -> Callable[[int], str]:
    return lambda number: f"{number} " + "x" * size


async def measure_stuck(server: EngineServer, messages: int, stuck: int) -> list[str]:
    """The rows about clients that do not read while messages are delivered."""
    async with await Client.open(server.port) as fast:
        await fast.subscribe()

        async def pass_messages(first: int) -> str:
            reading = asyncio.create_task(fast.read_run(first, first + messages - 1))
            await server.post_many(messages, content=_content(100))
            return await reading

        head = await pass_messages(1)
        begun = server.memory_bytes
        clients = []
        for _ in range(stuck):
            client = await Client.open(server.port, buffer_bytes=32_768)
            await client.subscribe(after=head)
            await client.next_frame()
            clients.append(client)
        await pass_messages(messages + 1)
        growth = server.memory_bytes - begun
        queued = max(send_queue_bytes(server.port, client.sock.getsockname()[1]) for client in clients)
        began = time.perf_counter()
        await asyncio.gather(*(client.read_run(messages + 1, 2 * messages) for client in clients))
        seconds = time.perf_counter() - began
        item = await server.post("live")
        for client in clients:
            assert (await client.next_message())["sequence"] == item["sequence"]
            client.sock.close()
    return [
        f"| messages that passed {stuck} clients that did not read | {messages:,} |",
        f"| growth of the server, all of it put on them, KiB each | {growth / stuck / 1024:.0f} |",
        f"| the kernel's share, KiB each at most | {queued / 1024:.0f} |",
        f"| all of them caught up in order and live, s (the client's own work) | {seconds:.1f} |",
    ]


class Returning(asyncio.Protocol):
    """One of the clients that resume: subscribes after its cursor, and keeps the sequences that it was sent."""

    def __init__(self, request: tuple[bytes, bytes], last: int, done: asyncio.Future[None]) -> None:
        self._request = request
        self._last = last
        self._done = done
        self._rest = b""
        self.sequences: list[int] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request[0])

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"HTTP/1.1 101"):
            self._transport.write(self._request[1])
        data = self._rest + data
        end = 0
        for found in _SEQUENCE.finditer(data):
            if found.end() == len(data):
                break  # The number may continue in the next packet.
            self.sequences.append(int(found[1]))
            end = found.end()
        self._rest = data[max(end, len(data) - 40) :]
        if self.sequences and self.sequences[-1] >= self._last and not self._done.done():
            self._done.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(ConnectionError("the server closed the connection"))


async def measure_storm(server: EngineServer, storm: int) -> list[str]:
    """The rows about clients that all resume at the same time, each from a different cursor."""
    await server.post_many(STORM_MESSAGES, content=_content(100), channel="storm")
    await server.kill()
    await server.start()
    query = {"channel_id": "storm", "limit": 1000}
    items = (await server.http.get("/api/messages", params=query)).json()["messages"]
    live = 20
    last = STORM_MESSAGES + live
    loop = asyncio.get_running_loop()
    starts = [number * (STORM_MESSAGES - 1) // storm + 1 for number in range(storm)]
    memory, peak = server.memory_bytes, 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, server.memory_bytes)
            await asyncio.sleep(0.1)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    clients, done = [], []
    for start in starts:
        future: asyncio.Future[None] = loop.create_future()
        request = Client.storm_request(server.port, "storm", items[start - 1]["cursor"])
        _, client = await loop.create_connection(
            lambda request=request, future=future: Returning(request, last, future),  # type: ignore[misc]
            "127.0.0.1",
            server.port,
        )
        clients.append(client)
        done.append(future)
    waits = []
    for number in range(live):
        posted = time.perf_counter()
        await server.post(f"during the storm {number}", channel="storm")
        waits.append(time.perf_counter() - posted)
    await asyncio.gather(*done)
    seconds = time.perf_counter() - began
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    for client, start in zip(clients, starts, strict=True):
        assert client.sequences == list(range(start + 1, last + 1)), "missing or repeated"
    seen = await server.metrics()
    return [
        f"| clients that resumed at once from different cursors behind {STORM_MESSAGES:,} messages | {storm:,} |",
        f"| until all were live, handshakes included, s | {seconds:.1f} |",
        f"| messages delivered meanwhile | {sum(len(client.sequences) for client in clients):,} |",
        f"| reads of the log (pages of 256: {-(-STORM_MESSAGES // 256)}) | {seen['raqcoon_log_reads_total']:.0f} |",
        f"| cohorts | {seen['raqcoon_cohorts']:.0f} |",
        f"| slowest post during the storm, ms | {max(waits) * 1000:.0f} |",
        f"| peak memory over the idle server, MiB | {(peak - memory) / 2**20:.1f} |",
    ]


async def run(options: argparse.Namespace) -> None:
    print("| slow subscribers and resume | |\n|---|---|")
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as directory:
        async with EngineServer(Path(directory), slow_subscriber_timeout_seconds=3600) as server:
            for row in await measure_stuck(server, options.messages, options.stuck):
                print(row, flush=True)
            for row in await measure_storm(server, options.storm):
                print(row, flush=True)
    machine = describe()
    print(f"\n{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, Python {machine['python']}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--stuck", type=int, default=20)
    parser.add_argument("--storm", type=int, default=2_000)
    options = parser.parse_args()
    raise_file_limit()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
