"""A soak: subscribers come and go, posts come at a steady rate, the server is killed sometimes. Nothing may be lost.

    uv run python -m benchmarks.soak [--seconds 3600] [--subscribers 2000] [--posts-per-second 20] [--faults-every 60]

There are different faults: a tenth of the connections is reset at the same time, the server is frozen for two seconds,
and sometimes the server is killed. The memory, tasks and open files of the server are sampled every few seconds. What a
subscriber receives must have no gap from its first message to its last. At the end every acknowledged post must be in
the log exactly once. Prints the figures, and with `--plot` writes a plot. The exit code is 1 if a message is missing or
repeated, if memory, tasks or files grew, or if some of them were left after the last client had gone.
"""

import argparse
import asyncio
import contextlib
import random
import re
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from benchmarks.processes import raise_file_limit
from benchmarks.soak_client import Follower
from benchmarks.soak_plot import draw
from benchmarks.soak_sample import Sample, growth
from tests.server_process import ServerProcess

ROOT = Path(__file__).resolve().parents[1]
CHANNELS = 20
CHURN_SECONDS = (5.0, 60.0)
"""How long a subscriber stays before it leaves. It comes back at the head, or at another place in the log."""
CONTENT_CHARACTERS = (100, 8_000)
"""This is long enough for the caches for subscribers that catch up to be full after a third of each life of the
server."""
FINISH_SECONDS = 60.0
_METRICS = re.compile(r"^raqcoon_(tasks|subscribers) (\S+)$", re.M)
RESET_SHARE = 0.1
FREEZE_SECONDS = 2.0
GROWTH_MAX = {"memory_bytes": 8 * 1024 * 1024, "tasks": 50, "files": 50}
"""How much more memory the server may have in the last third of each life than in the middle third. The caches are full
by then."""
LEFT_MAX = {"tasks": 2, "files": 10}
"""Open files that may be left, compared with a server that nobody has used. The log's four readers open eight files
when they are first needed, and keep them open."""


@dataclass
class Record:
    """What the soak has posted and seen."""

    posted: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Channel and sequence of each acknowledged post, by its name. The content begins with that name."""
    received: int = 0
    restarts: int = 0
    resets: int = 0
    freezes: int = 0
    visits: int = 0
    problems: list[str] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


class Soak:
    """One run against one server, on one port and one log."""

    def __init__(self, options: argparse.Namespace, directory: Path) -> None:
        self._options = options
        self._server = ServerProcess(directory, log_level="warning")
        self._http = httpx.AsyncClient(base_url=self._server.url, timeout=20)
        self._started_at = 0.0
        self._posted = asyncio.Event()
        self._following: set[Follower] = set()
        self.record = Record()

    async def run(self) -> Record:
        """Runs for `--seconds`, then checks every message."""
        await self._server.start()
        self._started_at = time.monotonic()
        unused = await self._look()
        stop = asyncio.Event()
        followers = [asyncio.create_task(self._follow(number, stop)) for number in range(self._options.subscribers)]
        others = [
            asyncio.create_task(self._post(stop)),
            asyncio.create_task(self._sample(stop)),
            asyncio.create_task(self._break(stop)),
        ]
        await asyncio.sleep(self._options.seconds)
        stop.set()
        for done in await asyncio.gather(*others, *followers, return_exceptions=True):
            if isinstance(done, BaseException):
                self.record.problems.append(f"the soak itself failed: {done!r}")
        await self._check_log()
        await self._check_empty(unused)
        await self._http.aclose()
        if await self._server.stop():
            self.record.problems.append("the server did not end well")
        return self.record

    async def _break(self, stop: asyncio.Event) -> None:
        faults = 0
        while not await _waits(stop, self._options.faults_every):
            faults += 1
            if faults % self._options.kill_every == 0:
                await self._server.kill()
                self.record.restarts += 1
                await self._server.start()
            elif faults % 2:
                self.record.resets += 1
                connected = sorted(self._following, key=lambda follower: follower.channel)
                for follower in random.Random(faults).sample(connected, int(len(connected) * RESET_SHARE)):
                    follower.reset()
            else:
                self.record.freezes += 1
                await self._server.freeze(FREEZE_SECONDS)

    async def _post(self, stop: asyncio.Event) -> None:
        number, chance = 0, random.Random(0)
        while not await _waits(stop, 1 / self._options.posts_per_second):
            number += 1
            channel, name = f"soak-{number % CHANNELS}", f"post {number}"
            content = f"{name}:" + "x" * chance.randint(*CONTENT_CHARACTERS)
            body = {"channel_id": channel, "author": "soak", "content": content, "idempotency_key": name}
            # If a fault interrupted a post, its outcome is unknown. It is repeated with its idempotency key.
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    answer = await self._http.post("/api/messages", json=body)
                    if answer.status_code == 200:
                        self.record.posted[name] = (channel, answer.json()["message"]["sequence"])
                        break
                await asyncio.sleep(0.1)
        self._posted.set()

    async def _follow(self, number: int, stop: asyncio.Event) -> None:
        """Subscribes, stays a while and leaves, again and again, with its newest cursor or without. One in fifty reads
        slowly."""
        chance = random.Random(number)
        await asyncio.sleep(chance.uniform(0, min(10.0, self._options.seconds / 4)))
        follower = Follower(self._server.port, f"soak-{number % CHANNELS}", slow=number % 50 == 0)
        while not stop.is_set():
            self.record.visits += 1
            leave_at = time.monotonic() + chance.uniform(*CHURN_SECONDS)
            self._following.add(follower)
            try:
                await follower.visit(lambda leave_at=leave_at: stop.is_set() or time.monotonic() > leave_at)
            except OSError:
                await asyncio.sleep(chance.uniform(0.1, 1.0))
            finally:
                self._following.discard(follower)
            if chance.random() < 0.2:
                self._account(follower)
                follower = Follower(self._server.port, f"soak-{number % CHANNELS}", slow=number % 50 == 0)
        await self._finish(follower)
        self._account(follower)

    async def _finish(self, follower: Follower) -> None:
        """Reads to the end of the channel, so that a subscriber that stopped too early is noticed."""
        await self._posted.wait()
        if not follower.sequence:
            return
        head = max(sequence for channel, sequence in self.record.posted.values() if channel == follower.channel)
        deadline = time.monotonic() + FINISH_SECONDS
        while follower.sequence < head and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                await follower.visit(lambda: follower.sequence >= head or time.monotonic() > deadline)
        if follower.sequence < head:
            self.record.problems.append(f"{follower.channel}: {follower.sequence} was the last of {head} to come")

    def _account(self, follower: Follower) -> None:
        self.record.received += follower.received
        self.record.problems += follower.problems

    async def _sample(self, stop: asyncio.Event) -> None:
        while not await _waits(stop, self._options.sample_every):
            with contextlib.suppress(httpx.HTTPError, OSError):
                self.record.samples.append(await self._look())

    async def _look(self) -> Sample:
        seen = dict(_METRICS.findall((await self._http.get("/metrics")).text))
        return Sample(
            time.monotonic() - self._started_at,
            self.record.restarts,
            self._server.memory_bytes,
            int(float(seen["tasks"])),
            self._server.open_files,
            int(float(seen["subscribers"])),
        )

    async def _check_empty(self, unused: Sample) -> None:
        """Checks that nothing of the clients is left after they have gone."""
        deadline = time.monotonic() + FINISH_SECONDS
        while True:
            last = await self._look()
            left = {name: getattr(last, name) - getattr(unused, name) for name in LEFT_MAX}
            if not last.subscribers and all(left[name] <= most for name, most in LEFT_MAX.items()):
                break
            if time.monotonic() > deadline:
                self.record.problems.append(f"{last.subscribers} subscribers and {left} stayed when all had gone")
                break
            await asyncio.sleep(0.5)
        self.record.samples.append(last)

    async def _check_log(self) -> None:
        """Checks that every acknowledged post is stored once, at the sequence in its answer, and that no channel has a
        gap."""
        held: dict[str, tuple[str, int]] = {}
        for channel in (f"soak-{number}" for number in range(CHANNELS)):
            cursor, expected = None, 1
            while True:
                query = {"channel_id": channel, "limit": "1000", **({"after": cursor} if cursor else {})}
                page = (await self._http.get("/api/messages", params=query)).json()["messages"]
                if not page:
                    break
                for item in page:
                    if item["sequence"] != expected:
                        self.record.problems.append(f"{channel} has {item['sequence']} where {expected} belongs")
                    name = item["content"].partition(":")[0]
                    if name in held:
                        self.record.problems.append(f"{name} is in the log twice")
                    held[name] = (channel, item["sequence"])
                    expected = item["sequence"] + 1
                cursor = page[-1]["cursor"]
        lost = [name for name, place in self.record.posted.items() if held.get(name) != place]
        self.record.problems += [f"{name} was acknowledged and is not where it was" for name in lost]


async def _waits(stop: asyncio.Event, seconds: float) -> bool:
    """Waits for this time. True at once if the soak is over."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--subscribers", type=int, default=2000)
    parser.add_argument("--posts-per-second", type=float, default=20)
    parser.add_argument("--faults-every", type=float, default=60, help="seconds between two faults")
    parser.add_argument("--kill-every", type=int, default=20, help="every so many faults, a kill -9")
    parser.add_argument("--sample-every", type=float, default=2)
    parser.add_argument("--plot", type=Path, help="where to write the SVG")
    options = parser.parse_args()
    raise_file_limit()
    with tempfile.TemporaryDirectory(dir=ROOT / "benchmarks") as directory:
        record = asyncio.run(Soak(options, Path(directory)).run())
    grown = {figure: growth(record.samples, figure) for figure in GROWTH_MAX}
    record.problems += [f"{name} grew by {by:,}" for name, by in grown.items() if by > GROWTH_MAX[name]]
    last = record.samples[-1]
    print(
        f"{options.seconds:.0f} s, {options.subscribers} subscribers, {record.visits:,} visits, "
        f"{record.restarts} times kill -9, {record.freezes} frozen, {record.resets} resets of a tenth: "
        f"{len(record.posted):,} posts, {record.received:,} deliveries, {len(record.problems)} problems\n"
        f"memory at most {max(s.memory_bytes for s in record.samples) / 2**20:.1f} MiB, "
        f"growth within one life {grown['memory_bytes'] / 2**20:.1f} MiB; "
        f"tasks at most {max(s.tasks for s in record.samples)}, at the end {last.tasks}; "
        f"open files at most {max(s.files for s in record.samples)}, at the end {last.files}"
    )
    for problem in record.problems[:20]:
        print(problem)
    if options.plot:
        faults = f"{record.restarts} kill -9, {record.freezes} freezes, {record.resets} resets of a tenth"
        draw(record.samples, options.plot, f"{options.subscribers:,} subscribers churning; {faults}")
    return 1 if record.problems else 0


if __name__ == "__main__":
    sys.exit(main())
