"""Runs an attack, and checks how much other clients notice of it and that nothing of it is left afterwards.

At the same time as an attack there is a probe: a subscriber in another channel that posts and waits for its own
message. Its time limit is generous. Without the limits in `transports/` it waited for seconds.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from tests.engine.client import SUBSCRIBE, Client
from tests.engine.engine_server import EngineServer
from tests.server_process import REPOSITORY

STANDSTILL_MS_MAX = 50.0
"""How long the server may stand still because of anything that one client sends."""
NOTICED_SECONDS = 1.0
"""If the probe waits longer than this for its own message, the attack is noticed."""
HELD_BYTES_MAX = 12_000_000
"""How much memory one client may make the server hold during the attack. It includes what the probe's posts take."""
KEPT_BYTES_MAX = 32_000_000
"""How much memory the process may keep afterwards: page caches of the log's connections, and the reserve of the
allocator. Both are bounded, and are filled by the first clients."""
MUTATION = 'mutation { postMessage(channelId: "probe", author: "probe", content: "x") { sequence } }'


def kept_from_the_processor_seconds(pid: int) -> float:
    """For how long the threads of a process were ready to run while other processes ran."""
    waited_ns = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # The thread has just ended.
            waited_ns += int(path.read_text().split()[1])
    return waited_ns / 1e9


class Probe:
    """Another client of the server, and its longest wait. Time in which other processes of the machine kept the server
    or the probe from running does not count."""

    def __init__(self, client: Client, server_pid: int) -> None:
        self.client = client
        self.worst_seconds = 0.0
        self.rounds = 0
        self._pids = (server_pid, os.getpid())

    def _now(self) -> float:
        return time.monotonic() - sum(map(kept_from_the_processor_seconds, self._pids))

    async def run(self) -> None:
        while True:
            started = self._now()
            await self.client.send(self.client.operation("post", MUTATION))
            seen = set()
            while seen != {"next", "complete", "message"}:
                received = await self.client.next_frame()
                seen.add("message" if received["id"] == "1" else received["type"])
            self.worst_seconds = max(self.worst_seconds, self._now() - started)
            self.rounds += 1
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def attack(server: EngineServer) -> AsyncIterator[Probe]:
    """The time of an attack. When it is over, the server must be as before, and the probe must not have waited too
    long."""
    client = await Client.open(server.port)
    await client.send(client.operation("1", SUBSCRIBE, channel="probe", after=None))
    probe = Probe(client, server.pid)
    await client.settle()
    probing = asyncio.create_task(probe.run())
    while probe.rounds < 20:
        await asyncio.sleep(0.01)
    before = await server.metrics()
    memory, files = server.memory_bytes, server.open_files
    probe.worst_seconds = 0.0
    yield probe
    after = await server.until_empty(1)
    await server.until(lambda seen: seen["raqcoon_tasks"] <= before["raqcoon_tasks"] + 3)
    rounds = probe.rounds
    while probe.rounds < rounds + 5:
        assert not probing.done(), probing
        await asyncio.sleep(0.01)
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    assert after["raqcoon_channels"] == 1
    async with asyncio.timeout(20):
        while server.open_files > files + 2:
            await asyncio.sleep(0.02)
    assert server.memory_bytes - memory < KEPT_BYTES_MAX
    assert probe.worst_seconds < NOTICED_SECONDS, probe.worst_seconds
    client.sock.close()
    await server.until_empty()
    assert "Traceback" not in server.log()


@contextlib.asynccontextmanager
async def standstill(server: EngineServer) -> AsyncIterator[Callable[[], Awaitable[float]]]:
    """Measures the longest standstill of the server in ms, with `benchmarks.standstill`. It ends when it is asked."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.standstill", "--port", str(server.port), "--pid", str(server.pid)),
        cwd=REPOSITORY,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()  # The measurement has begun.

        async def worst_ms() -> float:
            said, _ = await process.communicate(b"")
            return float(json.loads(said)["worst_ms"])

        yield worst_ms
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def longest_standstill_ms(server: EngineServer, work: Callable[[], Awaitable[None]], attempts: int = 3) -> float:
    """The longest standstill during an attack. Of several attempts the best one counts, because other tests on the
    machine can make each attempt longer."""
    best = float("inf")
    for _ in range(attempts):
        async with standstill(server) as worst_ms:
            await work()
            best = min(best, await worst_ms())
        if best <= STANDSTILL_MS_MAX:
            break
    return best
