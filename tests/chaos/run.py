"""One run: a cluster, people who use it, a nemesis who harms it, and the history of it all."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg

from messages import encode_cursor
from tests.chaos.history import Ended, History, Stored
from tests.chaos.nemesis import Nemesis
from tests.chaos.people import Book, Publisher, listener, named
from tests.cluster.chat_client import ChatClient
from tests.cluster.postgres import PostgresProcess
from tests.cluster.proxy import proxied
from tests.cluster.subscriber import Subscriber, subscribed
from tests.server_process import REPOSITORY, ServerProcess, running
from tests.transports.tokens import SECRET, token

PROGRAM = str(REPOSITORY / "tests" / "chaos" / "node_program.py")
CHANNELS = ["red", "green", "blue"]
NODES = "abc"
PUBLISHERS = 6
SUBSCRIBERS_PER_CHANNEL = 3
PAUSE_SECONDS = 0.04
"""A publisher's mean pause between two posts."""
ARRIVAL_SECONDS = 40.0
"""How long subscribers are given to hear everything once all faults are over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run's history and figures. `problems` are answers that no client should ever be given."""

    history: History
    counts: dict[str, int]
    exit_codes: list[int]
    problems: list[str]
    posted: int
    acknowledged: int
    unknown: int
    delivered: int
    reconnections: int
    seconds: float
    uss_mib: dict[str, tuple[float, float]]
    """Memory of each node that lived from the beginning to the end, before and after, in MiB."""


async def run(
    postgres: PostgresProcess,
    directory: Path,
    *,
    faults: int,
    seed: int,
    kinds: Sequence[str] = Nemesis.KINDS,
    bugs: Sequence[str] = (),
    arrival_seconds: float = ARRIVAL_SECONDS,
) -> Outcome:
    """Runs a cluster of three nodes under load until so many faults are over."""
    chance = random.Random(seed)
    url = await asyncio.to_thread(postgres.new_database, f"chaos_{seed}")
    async with AsyncExitStack() as stack:
        proxies = {name: await stack.enter_async_context(proxied(url)) for name in NODES}
        clocks = {name: directory / f"clock-{name}" for name in NODES}
        hints = {name: directory / f"hints-{name}" for name in NODES}
        nodes = [
            ServerProcess(
                directory,
                name,
                command=(PROGRAM,),
                environment={
                    "CHAOS_CLOCK": str(clocks[name]),
                    "CHAOS_HINTS": str(hints[name]),
                    "CHAOS_BUGS": ",".join(bugs),
                },
                database_url=proxies[name].url,
                auth="jwt",
                jwt_secret=SECRET,
                drain_seconds=3,
                drain_sockets_per_second=20,
            )
            for name in NODES
        ]
        await stack.enter_async_context(running(*nodes))
        everything = token(sub="everybody", post_as="*", manage=["*"])
        clients = {node.name: await stack.enter_async_context(ChatClient(node.url, token=everything)) for node in nodes}
        book = Book()
        epoch = await epoch_of(url)
        subscribers = [
            listener(
                f"{channel_id}{i}",
                book,
                channel_id,
                [nodes[(i + k) % len(nodes)].socket_url for k in range(len(nodes))],
                sequence=0,
                cursor=encode_cursor(epoch, channel_id, 0),
                token=token(sub=f"{channel_id}{i}"),
            )
            for channel_id in CHANNELS
            for i in range(SUBSCRIBERS_PER_CHANNEL)
        ]
        # The last one of each channel is thrown out now and then; the others are slow now and then.
        outcasts = [each for each in subscribers if each.name.endswith(str(SUBSCRIBERS_PER_CHANNEL - 1))]
        steady = [each for each in subscribers if each not in outcasts]
        await stack.enter_async_context(subscribed(*subscribers))
        publishers = [
            Publisher(f"p{i}", book, clients, CHANNELS, random.Random(chance.random())) for i in range(PUBLISHERS)
        ]
        burst = Publisher("burst", book, clients, CHANNELS, random.Random(chance.random()))
        last = Publisher("last", book, clients, CHANNELS, random.Random(chance.random()))
        nemesis = Nemesis(book, postgres, url, nodes, proxies, clocks, hints, steady, outcasts, clients, burst, chance)
        before = {node.pid: node.memory_bytes for node in nodes}

        stop = asyncio.Event()
        publishing = [asyncio.create_task(publisher.run(stop, PAUSE_SECONDS)) for publisher in publishers]
        await asyncio.sleep(1)
        await nemesis.run(faults, kinds)
        await asyncio.sleep(1)
        stop.set()
        await asyncio.gather(*publishing)
        # Through one node only, so that the others' subscribers depend on what nodes tell each other.
        for channel_id in CHANNELS:
            await last.post(channel_id, 1, node="a")
        log = await stored(url)
        heads = {entry.channel_id: entry.sequence for entry in log}
        await arrive(subscribers, heads, arrival_seconds)
        for subscriber in subscribers:
            book.add(lambda at, who=subscriber: Ended(at, who.channel_id, who.name))  # type: ignore[misc]
        people = [*publishers, burst, last]
        refused = [
            str(e)
            for s in subscribers
            for e in s.errors
            if e.get("extensions", {}).get("code") not in ("UNAVAILABLE", *(["FORBIDDEN"] if s in outcasts else []))
        ]
        return Outcome(
            history=History(book.events, log),
            counts=nemesis.counts,
            exit_codes=nemesis.exit_codes,
            problems=[problem for person in people for problem in person.problems] + refused,
            posted=sum(person.posted for person in people),
            acknowledged=sum(person.acknowledged for person in people),
            unknown=sum(person.unknown for person in people),
            delivered=sum(len(subscriber.record) for subscriber in subscribers),
            reconnections=sum(subscriber.connections - 1 for subscriber in subscribers),
            seconds=book.now(),
            uss_mib={
                node.name: (before[node.pid] / 2**20, node.memory_bytes / 2**20) for node in nodes if node.pid in before
            },
        )


async def arrive(subscribers: Sequence[Subscriber], heads: dict[str, int], seconds: float) -> None:
    """Waits until every subscriber has heard everything, or has had its time."""

    async def all_of_them() -> None:
        for subscriber in subscribers:
            if head := heads.get(subscriber.channel_id):
                await subscriber.until(head)

    try:
        async with asyncio.timeout(seconds):
            await all_of_them()
    except TimeoutError:
        return  # what is missing is a violation
    await asyncio.sleep(0.5)  # what comes twice would come now


async def epoch_of(url: str) -> str:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute("SELECT epoch FROM log_info")).fetchone()
    assert row is not None
    return str(row[0])


async def stored(url: str) -> list[Stored]:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        rows = await connection.execute("SELECT channel_id, sequence, content FROM messages ORDER BY 1, 2")
        return [Stored(channel_id, sequence, named(text)) for channel_id, sequence, text in await rows.fetchall()]
