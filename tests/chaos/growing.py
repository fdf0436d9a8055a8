"""Answers grow while everything is killed. In the end every subscriber must show exactly what was sent.

    uv run python -m tests.chaos.growing [--messages 100] [--rate 20] [--subscribers 1000] [--channels 100]
        [--seconds 60] [--kills 9]

`--messages` messages grow, each with `--rate` pieces a second, in `--channels` channels. The subscribers of `changes`
are spread over the channels. Meanwhile the server, a process of subscribers, and the process that writes are killed
(kill -9) in turn and started again. The server has a core to itself. Without kills, the waits say how soon a piece
reaches a subscriber.
"""

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.machine import LOAD_CORE, SERVER_CORE, pinned, process_cpu_seconds
from benchmarks.processes import raise_file_limit
from tests.chaos.growing_parts import END
from tests.server_process import REPOSITORY, ServerProcess

PROCESSES = 4
"""How many processes of subscribers there are. One of them is killed at a time."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a run. Times are in seconds. `waits` are the times from making a piece until a subscriber has it,
    ascending, without those of the first quarter, in which the subscribers come."""

    pieces: int
    changes: int
    subscribers: int
    right: int
    kills: int
    seconds: float
    cpu_seconds: float
    waits: list[float]

    def __str__(self) -> str:
        cuts = statistics.quantiles(self.waits, n=100) if len(self.waits) > 1 else [0.0] * 99
        return (
            f"{self.right} of {self.subscribers} subscribers show every text as it was sent; {self.kills} kills; "
            f"{self.pieces:,} pieces in {self.seconds:.0f} s ({self.pieces / self.seconds:,.0f}/s); "
            f"{self.changes:,} changes received by those who were not killed ({self.changes / self.seconds:,.0f}/s); "
            f"piece to subscriber p50 {cuts[49] * 1000:.1f} ms, p99 {cuts[98] * 1000:.1f} ms; "
            f"server's CPU {self.cpu_seconds / self.seconds:.0%} of a core"
        )


class _Part:
    """A process of `growing_parts` that can be killed and started again."""

    def __init__(self, *arguments: object) -> None:
        self._arguments = ["-m", "tests.chaos.growing_parts", *map(str, arguments)]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with pinned(LOAD_CORE):
            self._process = await asyncio.create_subprocess_exec(sys.executable, *self._arguments, cwd=REPOSITORY)

    async def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()

    def check(self) -> None:
        """Raises an error if the process has failed by itself."""
        assert self._process is not None
        if self._process.returncode not in (None, 0):
            raise RuntimeError(f"{self._arguments} ended with {self._process.returncode}")


async def run(
    directory: Path, *, messages: int, rate: float, subscribers: int, channels: int, seconds: float, kills: int
) -> Outcome:
    """One run. Afterwards nothing that it has started is left."""
    server = ServerProcess(directory)
    common = directory, server.port, messages, channels
    writer = _Part("write", *common, "--rate", rate)
    share, rest = divmod(subscribers, PROCESSES)
    counts = {f"w{number}": share + (number < rest) for number in range(PROCESSES)}
    audience = [_Part("watch", *common, "--name", name, "--count", count) for name, count in counts.items() if count]
    names = [name for name, count in counts.items() if count]
    parts = [writer, *audience]
    victims = [server, *parts]
    try:
        with pinned(SERVER_CORE):
            await server.start()
        await writer.start()
        await _until(lambda: len(list(directory.glob("*.sent"))) == messages, parts[:1])
        for each in audience:
            await each.start()
        await asyncio.sleep(subscribers / 400)
        began, cpu, settled_at = time.monotonic(), process_cpu_seconds(server.pid), time.time() + seconds / 4
        used = 0.0
        for number in range(kills):
            await asyncio.sleep(seconds / (kills + 1))
            # Every second time it is the server, otherwise a process of subscribers or the one that writes.
            victim = server if number % 2 == 0 else victims[1 + (number // 2) % len(parts)]
            if victim is server:
                used, cpu = used + process_cpu_seconds(server.pid) - cpu, 0.0
            await victim.kill()
            if victim is server:
                with pinned(SERVER_CORE):
                    await server.start()
            else:
                await victim.start()
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - began)))
        took = time.monotonic() - began
        used += process_cpu_seconds(server.pid) - cpu
        (directory / END).touch()
        await _until(lambda: all((directory / f"{name}.seen").exists() for name in names), parts)
    finally:
        for part in parts:
            await part.kill()
        await server.kill()
    sent = await asyncio.to_thread(lambda: [path.read_bytes() for path in directory.glob("*.sent")])
    seen = [orjson.loads((directory / f"{name}.seen").read_bytes()) for name in names]
    return Outcome(
        pieces=sum(record.count(b"\n") for record in sent),
        changes=sum(each["changes"] for each in seen),
        subscribers=subscribers,
        right=sum(each["right"] for each in seen),
        kills=kills,
        seconds=took,
        cpu_seconds=used,
        waits=sorted(wait for each in seen for made, wait in each["waits"] if made >= settled_at),
    )


async def _until(there: object, parts: list[_Part]) -> None:
    assert callable(there)
    async with asyncio.timeout(120):
        while not there():
            for part in parts:
                part.check()
            await asyncio.sleep(0.1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--rate", type=float, default=20.0, help="pieces a second of each message")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--channels", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kills", type=int, default=9)
    given = parser.parse_args()
    raise_file_limit()
    with tempfile.TemporaryDirectory() as directory:
        outcome = asyncio.run(run(Path(directory), **vars(given)))
    print(f"{os.cpu_count()} cores: {vars(given)}\n{outcome}", flush=True)
    return 0 if outcome.right == outcome.subscribers else 1


if __name__ == "__main__":
    sys.exit(main())
