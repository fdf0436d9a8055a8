"""Many clients come at the same time: each connects, loads a page of 50 over its socket and subscribes with its cursor.

    uv run python -m benchmarks.storm [--clients 5000] [--tree DIRECTORY] [--plot docs/images/storm.svg]

When they come, 500 subscribers already get 20 messages a second. The benchmark measures two things. One is how many of
the new clients are live at each moment: they have their page and their subscription, and have received a message by it.
The other is how late messages reach the subscribers that were there before. The server has one core, and the load
another. `--tree` measures another working tree of this repository too.
"""

import argparse
import asyncio
import json
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import LOAD_CORE, describe, pinned
from benchmarks.pages import post
from benchmarks.plots import storm
from benchmarks.processes import raise_file_limit, running
from benchmarks.servers import ROOT, Server
from tests.transports.live_server import frame

BEFORE = 500
PER_SECOND = 20
HISTORY = 500
GIVE_UP_SECONDS = 90.0
RESULTS = Path(__file__).parent / "results" / "storm.json"
HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"
)
PAGE = """query { channel(id: "general") { messages(last: 50) {
  edges { cursor node { id sequence author content lane provider tokenCount timestamp } }
  pageInfo { hasPreviousPage endCursor } } } }"""
SUBSCRIBE = 'subscription ($after: Cursor) { messages(channelId: "general", after: $after) { content } }'


def _operation(id_: str, query: str, **variables: object) -> bytes:
    payload = {"query": query, "variables": variables}
    return frame(json.dumps({"id": id_, "type": "subscribe", "payload": payload}))


@dataclass
class Run:
    """What happened. Times are in seconds since the clients began to come."""

    label: str
    live_at: list[float]
    latencies_ms: list[float]

    def latency_ms(self, share: float) -> float:
        return sorted(self.latencies_ms)[int(share * (len(self.latencies_ms) - 1))]


class Client(asyncio.Protocol):
    """One socket. With `before` it subscribes at once; otherwise it loads a page first."""

    def __init__(self, run: "Storm", *, before: bool) -> None:
        self._run = run
        self._before = before
        self._data = bytearray()
        self._open = False
        self._live = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._open:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            assert b" 101 " in self._data[:end], bytes(self._data[:200])
            del self._data[: end + 4]
            self._open = True
            first = _operation("s", SUBSCRIBE) if self._before else _operation("p", PAGE)
            self.transport.write(frame('{"type":"connection_init"}') + first)
        while len(self._data) >= 2:
            size, start = self._data[1] & 127, 2
            if size == 126:
                if len(self._data) < 4:
                    return
                size, start = struct.unpack_from("!H", self._data, 2)[0], 4
            if len(self._data) < start + size:
                return
            body = bytes(self._data[start : start + size])
            opcode = self._data[0] & 15
            del self._data[: start + size]
            if opcode == 9:
                self.transport.write(frame(body, opcode=10))
            elif opcode == 1:
                self._take(body)

    def _take(self, body: bytes) -> None:
        if body.startswith(b'{"id":"p","type":"next"'):
            cursor = body.partition(b'"endCursor":"')[2][:32].decode()
            self.transport.write(_operation("s", SUBSCRIBE, after=cursor))
        elif body.startswith(b'{"id":"s","type":"next"'):
            sent_at = float(body.partition(b'"content":"')[2].partition(b'"')[0])
            now = time.perf_counter()
            if self._before:
                self._run.heard(now - sent_at)
            elif not self._live:
                self._live = True
                self._run.is_live(now)
        elif b'"type":"error"' in body:
            raise AssertionError(body[:300])


class Storm:
    """One run against one server."""

    def __init__(self, port: int, clients: int) -> None:
        self._port = port
        self._clients = clients
        self._began = float("inf")
        self._live_at: list[float] = []
        self._latencies: list[float] = []
        self._all_live = asyncio.Event()

    def heard(self, seconds: float) -> None:
        if self._began < time.perf_counter():
            self._latencies.append(1000 * seconds)

    def is_live(self, now: float) -> None:
        self._live_at.append(now - self._began)
        if len(self._live_at) == self._clients:
            self._all_live.set()

    async def run(self, label: str) -> Run:
        posting = asyncio.create_task(self._post())
        transports = await self._connect(BEFORE, before=True)
        await asyncio.sleep(2)
        self._began = time.perf_counter()
        transports += await self._connect(self._clients, before=False)
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS):
                await self._all_live.wait()
        except TimeoutError:
            print(f"{label}: {len(self._live_at)} of {self._clients} were live in time", file=sys.stderr)
        await asyncio.sleep(1)
        posting.cancel()
        await asyncio.gather(posting, return_exceptions=True)
        for transport in transports:
            transport.abort()
        return Run(label, self._live_at, self._latencies)

    async def _connect(self, count: int, *, before: bool) -> list[asyncio.Transport]:
        loop = asyncio.get_running_loop()
        gate = asyncio.Semaphore(200)

        async def one() -> asyncio.Transport:
            async with gate:
                transport, _ = await loop.create_connection(
                    lambda: Client(self, before=before), "127.0.0.1", self._port
                )
                return transport

        return list(await asyncio.gather(*(one() for _ in range(count))))

    async def _post(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        number = 0
        started = time.perf_counter()
        while True:
            number += 1
            item = {"channel_id": "general", "author": "storm", "content": f"{time.perf_counter():.6f}"}
            writer.write(post("/api/messages", item))
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            await reader.readexactly(int(head.partition(b"content-length:")[2].partition(b"\r\n")[0]))
            if number > HISTORY:  # The history is posted as fast as possible.
                if number == HISTORY + 1:
                    started = time.perf_counter()
                await asyncio.sleep(max(0.0, started + (number - HISTORY) / PER_SECOND - time.perf_counter()))


def measure(tree: Path, label: str, clients: int) -> Run:
    command = [sys.executable, str(tree / "server.py")]
    server = Server(
        "storm", label, "graphql-ws", lambda _: command, lambda: "", {"PYTHONPATH": str(tree)}, durable=True
    )
    with running(server) as it:
        return asyncio.run(Storm(it.port, clients).run(label))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=5_000)
    parser.add_argument("--tree", type=Path, help="another working tree, measured as `before`")
    parser.add_argument("--plot", type=Path, help="where the plot is written")
    options = parser.parse_args()
    raise_file_limit()
    trees = [(ROOT, "now"), *([(options.tree, "before")] if options.tree else [])]
    with pinned(LOAD_CORE):
        runs = [measure(tree, label, options.clients) for tree, label in trees]
    print("| | half live, s | all live, s | delivery to those before p50 / p99 ms |\n|---|---:|---:|---:|")
    for run in runs:
        live = sorted(run.live_at)
        last = f"{live[-1]:.1f}" if len(live) == options.clients else "never"
        half = f"{live[len(live) // 2]:.1f}" if live else "never"
        print(f"| {run.label} | {half} | {last} | {run.latency_ms(0.5):.0f} / {run.latency_ms(0.99):.0f} |")
    if options.plot is not None:
        storm({run.label: run.live_at for run in runs}, options.clients, options.plot)
        figures = {
            run.label: {"live_at": sorted(run.live_at)[:: options.clients // 100], "p99_ms": run.latency_ms(0.99)}
            for run in runs
        }
        RESULTS.write_text(json.dumps({"machine": describe(), "clients": options.clients, "runs": figures}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
