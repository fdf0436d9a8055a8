"""Load for several nodes from one process, whose one clock times each post until its delivery."""

import asyncio
import json
import time
from dataclasses import dataclass, field

from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

_QUERY = "subscription M($channelId: ID!) { messages(channelId: $channelId) { sequence content } }"
SUBSCRIPTIONS_PER_SOCKET = 100


@dataclass(slots=True)
class Listening:
    """What one node's subscribers received: the latency of each delivery in seconds."""

    latencies: list[float] = field(default_factory=list)
    confused: int = 0
    """Deliveries that did not follow the one before in their channel."""


async def listen(port: int, channel_ids: list[str], heard: Listening, ready: asyncio.Barrier) -> None:
    """Subscribes to every channel over a few sockets and notes latencies until it is cancelled."""
    groups = [
        channel_ids[i : i + SUBSCRIPTIONS_PER_SOCKET] for i in range(0, len(channel_ids), SUBSCRIPTIONS_PER_SOCKET)
    ]
    async with asyncio.TaskGroup() as tasks:
        for group in groups:
            tasks.create_task(_listen(port, group, heard, ready))


async def _listen(port: int, channel_ids: list[str], heard: Listening, ready: asyncio.Barrier) -> None:
    last: dict[str, int] = {}
    async with connect(
        f"ws://127.0.0.1:{port}/graphql",
        subprotocols=[Subprotocol("graphql-transport-ws")],
        compression=None,
        ping_interval=None,
    ) as socket:
        await socket.send('{"type":"connection_init"}')
        await socket.recv()
        for channel_id in channel_ids:
            payload = {"query": _QUERY, "variables": {"channelId": channel_id}}
            await socket.send(json.dumps({"id": channel_id, "type": "subscribe", "payload": payload}))
        await socket.send('{"type":"ping"}')
        await socket.recv()
        await asyncio.sleep(0.5)  # the last subscription has read its head by then
        await ready.wait()
        async for frame in socket:
            received = json.loads(frame)
            message = received["payload"]["data"]["messages"]
            now = time.perf_counter_ns()
            heard.latencies.append((now - int(message["content"][:20])) / 1e9)
            sequence = message["sequence"]
            if sequence != last.get(received["id"], sequence - 1) + 1:
                heard.confused += 1
            last[received["id"]] = sequence


class Poster:
    """One connection that posts through the REST shim, each post after the answer to the one before."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.posted = 0

    async def run(self, channel_ids: list[str], first: int, until: float, pause_seconds: float = 0.0) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = (
            f"POST /api/messages HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: application/json\r\n"
            "Content-Length: "
        )
        i = first
        while time.perf_counter() < until:
            body = json.dumps(
                {
                    "channel_id": channel_ids[i % len(channel_ids)],
                    "author": "bench",
                    "content": f"{time.perf_counter_ns():020}" + "." * 44,
                }
            )
            writer.write(f"{head}{len(body)}\r\n\r\n{body}".encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            if not answer.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(answer.decode())
            size = next(
                int(line.partition(b":")[2])
                for line in answer.splitlines()
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(size)
            self.posted += 1
            i += 1
            if pause_seconds:
                await asyncio.sleep(pause_seconds)
        writer.close()
