"""Measures growing messages: how many durable pieces a second one core takes, and how soon they reach subscribers.

    uv run python -m benchmarks.growing [--seconds 8] [--subscribers 0 1 1000]

A hundred producers append to a hundred messages of one channel over graphql-transport-ws. Each of them has up to eight
pieces under way at the same time, and begins a new message when the old one has 64 KiB. The server has a core to
itself. After that, a single producer sends one message of 64 KiB in 2,000 pieces, to measure how much is written to the
disk. Prints a Markdown table and writes `benchmarks/results/growing.md`.
"""

import argparse
import asyncio
import multiprocessing
import statistics
import sys
import time
from collections.abc import Iterable
from multiprocessing.sharedctypes import Synchronized
from typing import Any

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from benchmarks.machine import describe, process_cpu_seconds
from benchmarks.processes import raise_file_limit, running
from benchmarks.runner import RESULTS
from benchmarks.servers import SERVERS

PRODUCERS = 100
WINDOW = 8
PIECE = "a token "
CONTENT_BYTES = 65_536
WHOLE_PIECES = 2_000
POST = """mutation ($c: String!) {
  postMessage(channelId: "growing", author: "bench", content: $c, complete: false) { id }
}"""
APPEND = (
    """mutation ($i: ID!, $r: Int!, $p: String!) { appendToMessage(id: $i, revision: $r, piece: $p) { revision } }"""
)
CHANGES = 'subscription { changes(channelId: "growing") { messageId revision kind piece timestamp } }'


async def open_socket(port: int) -> ClientConnection:
    socket = await connect(
        f"ws://127.0.0.1:{port}/graphql",
        subprotocols=[Subprotocol("graphql-transport-ws")],
        compression=None,
        ping_interval=None,
        max_size=None,
    )
    await socket.send('{"type":"connection_init"}')
    await socket.recv()
    return socket


async def ask(socket: ClientConnection, query: str, **variables: Any) -> Any:
    payload = {"query": query, "variables": variables}
    await socket.send(orjson.dumps({"id": "q", "type": "subscribe", "payload": payload}).decode())
    answer = orjson.loads(await socket.recv())
    await socket.recv()  # complete
    return answer["payload"]["data"]


async def grow(socket: ClientConnection, pieces: int, piece: str, window: int, until: float) -> tuple[int, list[float]]:
    """Sends pieces of one message, with at most `window` of them unanswered. Returns how many were accepted, and how
    long each answer took, in seconds."""
    id_ = (await ask(socket, POST, c="It"))["postMessage"]["id"]
    sent = answered = 0
    sent_at: dict[str, float] = {}
    waits = []
    while answered < pieces and (sent > answered or time.perf_counter() < until):
        while sent < pieces and sent - answered < window and time.perf_counter() < until:
            payload = {"query": APPEND, "variables": {"i": id_, "r": sent, "p": piece}}
            sent_at[str(sent)] = time.perf_counter()
            await socket.send(orjson.dumps({"id": str(sent), "type": "subscribe", "payload": payload}).decode())
            sent += 1
        if sent == answered:
            break
        frame = orjson.loads(await socket.recv())
        if frame["type"] == "next":
            if "errors" in frame["payload"]:
                raise RuntimeError(str(frame))
            waits.append(time.perf_counter() - sent_at.pop(frame["id"]))
            answered += 1
    return answered, waits


async def produce(port: int, seconds: float) -> tuple[int, list[float]]:
    sockets = [await open_socket(port) for _ in range(PRODUCERS)]
    until = time.perf_counter() + seconds
    most = (CONTENT_BYTES - 2) // len(PIECE)

    async def producer(socket: ClientConnection) -> tuple[int, list[float]]:
        taken, waits = 0, []
        while time.perf_counter() < until:
            answered, waited = await grow(socket, most, PIECE, WINDOW, until)
            taken += answered
            waits += waited
        return taken, waits

    done = await asyncio.gather(*map(producer, sockets))
    for socket in sockets:
        socket.transport.abort()
    return sum(taken for taken, _ in done), [wait for _, waits in done for wait in waits]


class Listener(asyncio.Protocol):
    """A subscriber that counts the bytes that it is sent, and does not look at them."""

    def __init__(self, received: list[int]) -> None:
        self._received = received

    def data_received(self, data: bytes) -> None:
        self._received[0] += data.count(b'"type":"next"')


def subscribe(port: int, count: int, ready: Any, over: Any, received: "Synchronized[int]", latencies: Any) -> None:
    """A process with `count` subscribers. One of them reads the times in what it is sent."""

    async def run() -> None:
        counted = [0]
        sockets = [await open_socket(port) for _ in range(count)]
        message = orjson.dumps({"id": "s", "type": "subscribe", "payload": {"query": CHANGES}}).decode()
        for socket in sockets:
            await socket.send(message)
        waits: list[float] = []
        for socket in sockets[1:]:
            socket.transport.set_protocol(Listener(counted))

        async def read() -> None:
            from datetime import UTC, datetime

            async for frame in sockets[0]:
                counted[0] += 1
                if counted[0] % 7 == 0 or len(waits) < 100:
                    made = orjson.loads(frame)["payload"]["data"]["changes"]["timestamp"]
                    waits.append((datetime.now(UTC) - datetime.fromisoformat(made)).total_seconds())

        reading = asyncio.create_task(read())
        await asyncio.sleep(0.5)
        ready.set()
        await asyncio.to_thread(over.wait)
        reading.cancel()
        received.value = counted[0]
        latencies.send(waits)

    asyncio.run(run())


def measure(subscribers: int, seconds: float) -> list[str]:
    with running(SERVERS["raqcoon"]) as server:
        context = multiprocessing.get_context("spawn")
        ready, over, received = context.Event(), context.Event(), context.Value("q", 0)
        ours, theirs = context.Pipe(False)
        process = None
        if subscribers:
            process = context.Process(
                target=subscribe, args=(server.port, subscribers, ready, over, received, theirs), daemon=True
            )
            process.start()
            ready.wait(60)
        cpu, began = process_cpu_seconds(server.pid), time.perf_counter()
        taken, waits = asyncio.run(produce(server.port, seconds))
        took, cpu = time.perf_counter() - began, process_cpu_seconds(server.pid) - cpu
        latencies: list[float] = []
        if process is not None:
            over.set()
            latencies = ours.recv()
            process.join(10)
    return [
        f"{subscribers:,}",
        f"{taken / took:,.0f}",
        f"{cpu / taken * 1e6:,.0f}",
        quantiles(waits),
        quantiles(latencies),
        f"{received.value / took:,.0f}",
    ]


def quantiles(values: Iterable[float]) -> str:
    """p50 and p99 in milliseconds."""
    listed = list(values)
    if len(listed) < 2:
        return "-"
    cuts = statistics.quantiles(listed, n=100)
    return f"{cuts[49] * 1000:.1f} / {cuts[98] * 1000:.1f}"


def written_bytes(pid: int) -> int:
    """How many bytes a process has caused to be written to the disk, as the kernel counts them."""
    with open(f"/proc/{pid}/io") as io:
        return int(next(line for line in io if line.startswith("write_bytes")).split()[1])


def measure_whole(window: int) -> list[str]:
    piece = "x" * (CONTENT_BYTES // WHOLE_PIECES)

    async def run(port: int) -> None:
        socket = await open_socket(port)
        taken, _ = await grow(socket, WHOLE_PIECES, piece, window, time.perf_counter() + 120)
        if taken != WHOLE_PIECES:
            raise RuntimeError(f"{taken} pieces were taken")
        socket.transport.abort()

    with running(SERVERS["raqcoon"]) as server:
        before = written_bytes(server.pid)
        asyncio.run(run(server.port))
        written = written_bytes(server.pid) - before
    return [f"{window:,}", f"{written:,}", f"{written / (WHOLE_PIECES * len(piece)):.1f}"]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---:"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--subscribers", type=int, nargs="*", default=[0, 1, 1000])
    parser.add_argument("--windows", type=int, nargs="*", default=[1, 32, 500])
    parsed = parser.parse_args()
    raise_file_limit()
    head = [
        "subscribers",
        "pieces/s",
        "CPU µs a piece",
        "answer p50 / p99 ms",
        "to a subscriber p50 / p99 ms",
        "deliveries/s",
    ]
    text = table(head, [measure(count, parsed.seconds) for count in parsed.subscribers])
    whole = ["pieces under way", "bytes written", "times its size"]
    text += "\n\n64 KiB in 2,000 pieces:\n\n" + table(whole, [measure_whole(window) for window in parsed.windows])
    print(text)
    machine = ", ".join(f"{name} {value}" for name, value in describe().items())
    (RESULTS / "growing.md").write_text(f"# Messages that grow\n\n{machine}\n\n{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
