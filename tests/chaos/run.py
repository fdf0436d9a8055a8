"""One run: a cluster, publishers and subscribers that use it, a nemesis that harms it, and the history of it all."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg

from changes import apply_change
from message_log.change_rows import COLUMNS, as_changes
from message_rows import from_microseconds, lived
from messages import Message, encode_cursor
from tests.chaos.authors import Author
from tests.chaos.follower import Follower
from tests.chaos.history import Ended, Held, History, Standing, Stored, StoredChange
from tests.chaos.nemesis import Nemesis
from tests.chaos.people import Book, Publisher, listener, named
from tests.cluster.chat_client import ChatClient
from tests.cluster.postgres import PostgresProcess
from tests.cluster.proxy import proxied
from tests.cluster.subscriber import Subscriber, end, subscribed
from tests.server_process import REPOSITORY, ServerProcess, running
from tests.transports.tokens import SECRET, token

PROGRAM = str(REPOSITORY / "tests" / "chaos" / "node_program.py")
CHANNELS = ["red", "green", "blue"]
LIVING = "gold"
"""The channel in which messages grow, are edited and erased. It also has plain posts."""
AUTHORS = 3
VISITORS = 4
"""How many followers come while messages are changed, one every `VISIT_SECONDS`. As many come afterwards."""
VISIT_SECONDS = 2.0
PAGE_PAUSE_SECONDS = 0.5
NODES = "abc"
PUBLISHERS = 6
SUBSCRIBERS_PER_CHANNEL = 3
PAUSE_SECONDS = 0.04
"""The mean pause of a publisher between two posts."""
ARRIVAL_SECONDS = 40.0
"""How long subscribers have to receive everything after all faults are over."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The history and the figures of a run. `problems` are answers that no client should ever get."""

    history: History
    counts: dict[str, int]
    exit_codes: list[int]
    problems: list[str]
    posted: int
    acknowledged: int
    changed: int
    unknown: int
    delivered: int
    reconnections: int
    seconds: float
    uss_mib: dict[str, tuple[float, float]]
    """The memory, before and after, of each node that ran from the beginning to the end, in MiB."""


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
    """Runs a cluster of three nodes under load until this many faults are over."""
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
        # The access of the last one of each channel is revoked sometimes. The others are slow sometimes.
        outcasts = [each for each in subscribers if each.name.endswith(str(SUBSCRIBERS_PER_CHANNEL - 1))]
        steady = [each for each in subscribers if each not in outcasts]
        await stack.enter_async_context(subscribed(*subscribers))
        visits = _Visits(stack, book, nodes, clients, epoch)
        # These two may be slow and may lose their connections, like the others.
        steady += [await visits.come(), await visits.come()]
        authors = [
            Author(f"author{i}", book, clients, LIVING, random.Random(chance.random())) for i in range(AUTHORS + 1)
        ]
        publishers = [
            Publisher(f"p{i}", book, clients, [*CHANNELS, LIVING], random.Random(chance.random()))
            for i in range(PUBLISHERS)
        ]
        burst = Publisher("burst", book, clients, CHANNELS, random.Random(chance.random()))
        last = Publisher("last", book, clients, CHANNELS, random.Random(chance.random()))
        nemesis = Nemesis(book, postgres, url, nodes, proxies, clocks, hints, steady, outcasts, clients, burst, chance)
        before = {node.pid: node.memory_bytes for node in nodes}

        stop = asyncio.Event()
        publishing = [asyncio.create_task(publisher.run(stop, PAUSE_SECONDS)) for publisher in publishers]
        publishing += [asyncio.create_task(author.run(stop, PAUSE_SECONDS)) for author in authors[:-1]]
        visiting = asyncio.create_task(visits.come_now_and_then(stop))
        await asyncio.sleep(1)
        await nemesis.run(faults, kinds)
        await asyncio.sleep(1)
        stop.set()
        await asyncio.gather(*publishing, visiting)
        # Only over one node, so that the subscribers of the others depend on what nodes tell each other.
        for channel_id in [*CHANNELS, LIVING]:
            await last.post(channel_id, 1, node="a")
        for _ in range(3):
            await authors[-1].live(PAUSE_SECONDS, node="a")
        for _ in range(VISITORS):
            await visits.come()
        log = await stored(url)
        await arrive(subscribers, visits.followers, log, arrival_seconds)
        for follower in visits.followers:
            follower.show()
        subscribers += visits.followers
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
            problems=[problem for person in [*people, *authors] for problem in person.problems] + refused,
            posted=sum(person.posted for person in people),
            acknowledged=sum(person.acknowledged for person in people),
            changed=sum(author.changed for author in authors),
            unknown=sum(person.unknown for person in people),
            delivered=sum(len(subscriber.record) for subscriber in subscribers),
            reconnections=sum(subscriber.connections - 1 for subscriber in subscribers),
            seconds=book.now(),
            uss_mib={
                node.name: (before[node.pid] / 2**20, node.memory_bytes / 2**20) for node in nodes if node.pid in before
            },
        )


class _Visits:
    """Followers of the channel with changes. They come at any time, begin in different ways in turn, and stay."""

    def __init__(
        self,
        stack: AsyncExitStack,
        book: Book,
        nodes: list[ServerProcess],
        clients: dict[str, ChatClient],
        epoch: str,
    ) -> None:
        self.followers: list[Follower] = []
        self._stack = stack
        self._book = book
        self._nodes = nodes
        self._clients = list(clients.values())
        self._epoch = epoch

    async def come(self) -> Follower:
        number = len(self.followers)
        name = f"follower{number}"
        urls = [self._nodes[(number + k) % len(self._nodes)].socket_url for k in range(len(self._nodes))]
        follower = Follower(name, self._book, LIVING, urls, self._epoch, token=token(sub=name), replays=number % 2 == 0)
        await follower.open(self._clients)
        works = follower.run(), follower.read_pages(self._clients, PAGE_PAUSE_SECONDS)
        self._stack.push_async_callback(end, [asyncio.create_task(work) for work in works])
        self.followers.append(follower)
        return follower

    async def come_now_and_then(self, stop: asyncio.Event) -> None:
        for _ in range(VISITORS):
            with suppress(TimeoutError):
                async with asyncio.timeout(VISIT_SECONDS):
                    await stop.wait()
            await self.come()


async def arrive(
    subscribers: Sequence[Subscriber], followers: Sequence[Follower], log: Sequence[Held], seconds: float
) -> None:
    """Waits until every subscriber has received everything, or until the time for it is over."""
    heads: dict[str, int] = {}
    for entry in log:
        if isinstance(entry, Stored):
            heads[entry.channel_id] = max(entry.sequence, heads.get(entry.channel_id, 0))
    change = max((entry.sequence for entry in log if isinstance(entry, StoredChange)), default=0)

    async def all_of_them() -> None:
        for subscriber in subscribers:
            if head := heads.get(subscriber.channel_id):
                await subscriber.until(head)
        for follower in followers:
            await follower.until_both(heads.get(LIVING, 0), change)

    try:
        async with asyncio.timeout(seconds):
            await all_of_them()
    except TimeoutError:
        return  # what is missing is a violation
    await asyncio.sleep(0.5)  # if something comes twice, it comes now


async def epoch_of(url: str) -> str:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        row = await (await connection.execute("SELECT epoch FROM log_info")).fetchone()
    assert row is not None
    return str(row[0])


async def stored(url: str) -> list[Held]:
    """Reads the log: its messages as they were posted, its changes, and the messages of the channel with changes as
    they are now."""
    held: list[Held] = []
    standing: dict[int, Message] = {}
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        rows = await connection.execute(
            "SELECT channel_id, sequence, author, content, lane, provider, token_count, timestamp, revision, complete, "
            "edited_at, erased_at, idempotency_key FROM messages ORDER BY 1, 2"
        )
        for channel_id, sequence, author, text, lane, provider, tokens, at, *life, key in await rows.fetchall():
            # A content that was changed does not identify the post any more. The idempotency key does.
            held.append(Stored(channel_id, sequence, key if life[0] else named(text)))
            if channel_id == LIVING:
                standing[sequence] = Message(
                    channel_id, sequence, author, text, lane, provider, tokens, from_microseconds(at), "", *lived(*life)
                )
        names = ", ".join(column.name for column in COLUMNS)
        found = await connection.execute(f"SELECT {names} FROM changes ORDER BY channel_id, sequence")
        for change in as_changes(await found.fetchall(), ""):
            held.append(
                StoredChange(
                    change.channel_id,
                    change.sequence,
                    change.message_sequence,
                    change.revision,
                    change.kind.value,
                    change.piece or change.content,
                )
            )
            standing[change.message_sequence] = apply_change(standing[change.message_sequence], change)
    held += [
        Standing(m.channel_id, m.sequence, m.content, m.revision, m.complete, m.erased_at is not None)
        for m in standing.values()
    ]
    return held
