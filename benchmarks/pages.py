"""Measures what a page of history costs over GraphQL, and compares other servers in the same run.

    uv run python -m benchmarks.pages [--rounds 5] [--tree DIRECTORY] [--quick]

Pages have 50 or 200 messages with eight fields, cursors and page info. Cold means that every request asks for another
page. Warm means that all requests ask for the newest page. CPU is the user and system time of the server process, with
all its threads, divided by the number of requests. The load runs on another core. RAQCOON reads from its SQLite log,
and the other servers from memory. `--tree` also measures another working tree of this repository. The longest step is
the longest time for which the event loop can do nothing else, while one connection asks for page after page. Prints
Markdown tables and writes `results/pages.json`.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.machine import LOAD_CORE, describe, pinned, process_cpu_seconds
from benchmarks.processes import running
from benchmarks.servers import NODE_PEERS, ROOT, Server, install_node_peers, node

HELD = 4_000
CONNECTIONS = 8
STEP_PAGES = 100
"""How many pages are read while the longest step is measured."""
RESULTS = Path(__file__).parent / "results" / "pages.json"
QUERY = """query Page($last: Int!, $before: %s) { channel(id: "general") { messages(last: $last, before: $before) {
  edges { cursor node { id sequence author content lane provider tokenCount timestamp } }
  pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }"""


@dataclass(frozen=True)
class Measured:
    """Milliseconds of CPU for a page. Each figure is the median of the rounds."""

    server: str
    milliseconds: dict[str, float]
    longest_steps: dict[str, float]
    """Milliseconds of CPU. Empty for servers in which it cannot be measured."""


def servers(tree: Path | None) -> Iterator[tuple[Server, str]]:
    """The servers, and the GraphQL type of their cursors."""
    held = {"PAGES_MESSAGES": str(HELD)}

    def ours(key: str, label: str, directory: Path) -> Server:
        command = [sys.executable, str(directory / "server.py")]
        environment = {"PYTHONPATH": str(directory)}
        return Server(key, label, "graphql-ws", lambda _: command, lambda: "", environment, durable=True)

    yield ours("pages-raqcoon", "RAQCOON, from SQLite", ROOT), "Cursor"
    if tree is not None:
        yield ours("pages-before", "RAQCOON before", tree), "Cursor"
    yield (
        Server(
            "pages-mercurius",
            "Mercurius with JIT, from memory",
            "graphql-ws",
            lambda _: [node(), "--no-warnings", str(NODE_PEERS / "pages.js")],
            lambda: "",
            held,
            prepare=install_node_peers,
        ),
        "String",
    )
    yield (
        Server(
            "pages-strawberry",
            "Strawberry, from memory",
            "graphql-ws",
            lambda port: [sys.executable, "-m", "benchmarks.peers.strawberry_pages", "--port", str(port)],
            lambda: "",
            held,
        ),
        "String",
    )


class Client:
    """One HTTP connection that waits for each answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> "Client":
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def close(self) -> None:
        self._writer.close()

    async def ask(self, request: bytes) -> bytes:
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        return await self._reader.readexactly(length)


def post(path: str, body: object) -> bytes:
    encoded = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(encoded)}\r\n\r\n".encode() + encoded


async def fill(port: int) -> None:
    async def some(numbers: range) -> None:
        client = await Client.open(port)
        for number in numbers:
            content = f"message {number} ".ljust(120, "x")
            item = {"channel_id": "general", "author": f"author {number % 7}", "content": content, "lane": "a"}
            await client.ask(post("/api/messages", item))
        client.close()

    await asyncio.gather(*(some(range(start, HELD, 32)) for start in range(32)))


async def cursors(port: int) -> list[str]:
    """The cursor of each message from the 200th on."""
    client = await Client.open(port)
    found: list[str] = []
    after = ""
    while len(found) < HELD:
        request = f"GET /api/messages?channel_id=general&limit=1000{after} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
        page = json.loads(await client.ask(request.encode()))["messages"]
        found += [item["cursor"] for item in page]
        after = f"&after={found[-1]}"
    client.close()
    return found[200:]


async def load(port: int, requests: list[bytes]) -> None:
    async def one(mine: list[bytes]) -> None:
        client = await Client.open(port)
        for request in mine:
            answer = await client.ask(request)
            assert b'"errors"' not in answer, answer[:300]
        client.close()

    await asyncio.gather(*(one(requests[start::CONNECTIONS]) for start in range(CONNECTIONS)))


async def measure(server: Server, cursor_type: str, rounds: int, requests_each: int) -> Measured:
    with running(server) as it:
        positions = [str(number) for number in range(201, HELD)]
        if server.durable:
            await fill(it.port)
            positions = await cursors(it.port)
        found: dict[str, list[float]] = {}
        choose = random.Random(1)
        for _ in range(rounds + 1):
            for size in (50, 200):
                for how in ("cold", "warm"):
                    befores = choose.sample(positions, requests_each) if how == "cold" else [None] * requests_each
                    body = {"query": QUERY % cursor_type}
                    requests = [
                        post("/graphql", {**body, "variables": {"last": size, "before": before}}) for before in befores
                    ]
                    began = process_cpu_seconds(it.pid)
                    await load(it.port, requests)
                    spent = process_cpu_seconds(it.pid) - began
                    found.setdefault(f"{size} {how}", []).append(1000 * spent / requests_each)
        # The first round warms the server up.
        return Measured(server.label, {name: statistics.median(values[1:]) for name, values in found.items()}, {})


async def measure_steps(server: Server, tree: Path, rounds: int) -> dict[str, float]:
    """The longest step of the event loop for pages of each kind. Each figure is the median of the rounds."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "steps"
        command = [sys.executable, "-m", "benchmarks.watched", str(tree / "server.py"), str(file)]
        with running(replace(server, key=f"{server.key}-steps", command=lambda _: command)) as it:
            await fill(it.port)
            choose = random.Random(1)
            positions = await cursors(it.port)
            found: dict[str, list[float]] = {}
            client = await Client.open(it.port)
            for _ in range(rounds + 1):
                for size in (50, 200):
                    for how in ("cold", "warm"):
                        longest_step(it.pid, file)
                        for before in choose.sample(positions, STEP_PAGES):
                            variables = {"last": size, "before": before if how == "cold" else None}
                            await client.ask(post("/graphql", {"query": QUERY % "Cursor", "variables": variables}))
                        found.setdefault(f"{size} {how}", []).append(longest_step(it.pid, file))
            client.close()
            return {name: statistics.median(values[1:]) for name, values in found.items()}


def longest_step(pid: int, file: Path) -> float:
    """The longest step since the last call, in milliseconds."""
    os.kill(pid, signal.SIGUSR1)
    deadline = time.monotonic() + 10
    while not file.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the server's watch does not answer")
        time.sleep(0.005)
    found = float(file.read_text())
    file.unlink()
    return found


def render(measured: list[Measured]) -> str:
    columns = list(measured[0].milliseconds)
    lines = [f"| CPU, ms a page | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    lines += [
        f"| {each.server} | {' | '.join(f'{each.milliseconds[name]:.2f}' for name in columns)} |" for each in measured
    ]
    lines += [
        "",
        f"| longest step of the loop, ms | {' | '.join(columns)} |",
        "|---|" + "---:|" * len(columns),
    ]
    lines += [
        f"| {each.server} | {' | '.join(f'{each.longest_steps[name]:.2f}' for name in columns)} |"
        for each in measured
        if each.longest_steps
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tree", type=Path, help="another working tree, measured as `before`")
    parser.add_argument("--quick", action="store_true", help="one short round, this server only")
    options = parser.parse_args()
    chosen = list(servers(None))[:1] if options.quick else list(servers(options.tree))
    rounds, requests_each = (1, 400) if options.quick else (options.rounds, 150)
    with pinned(LOAD_CORE):
        measured = [asyncio.run(measure(server, of_type, rounds, requests_each)) for server, of_type in chosen]
        for place, tree in enumerate([ROOT, options.tree] if options.tree else [ROOT]):
            steps = asyncio.run(measure_steps(chosen[place][0], tree, rounds))
            measured[place] = replace(measured[place], longest_steps=steps)
    table = render(measured)
    print(table)
    if not options.quick:
        result = {
            "machine": describe(),
            "pages": {each.server: each.milliseconds for each in measured},
            "longest_steps": {each.server: each.longest_steps for each in measured if each.longest_steps},
        }
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
        RESULTS.with_suffix(".md").write_text(f"# Pages\n\n{table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
