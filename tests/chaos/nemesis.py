"""Harms a cluster in all the ways that it must survive."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg

from message_log import postgresql
from message_log.hints import EARLIER_NOTIFY_CHANNEL, log_name
from message_log.wire import encode
from messages import Message
from tests.chaos.history import Fault, Restoring, Revoked
from tests.chaos.people import Book, Publisher
from tests.cluster.chat_client import ChatClient, Failed
from tests.cluster.postgres import PostgresProcess
from tests.cluster.proxy import Proxy
from tests.cluster.subscriber import Subscriber
from tests.server_process import ServerFailed, ServerProcess

REVOKE = (
    "mutation ($author: String!, $channelId: ID) { revokeAccess(author: $author, channelId: $channelId) { author } }"
)
RESTORE = "mutation ($author: String!, $channelId: ID) { restoreAccess(author: $author, channelId: $channelId) }"
REST_SECONDS = (0.2, 1.5)
"""The time between two faults. Many faults last longer, so they overlap."""
LONG_STALL_SECONDS = 6.5
"""This is longer than any time limit of a node. So the node must give up, and come back."""


class Nemesis:
    """Causes one fault after the other, and makes sure that each of them ends."""

    def __init__(
        self,
        book: Book,
        postgres: PostgresProcess,
        database_url: str,
        nodes: list[ServerProcess],
        proxies: dict[str, Proxy],
        clocks: dict[str, Path],
        hints: dict[str, Path],
        subscribers: list[Subscriber],
        outcasts: list[Subscriber],
        clients: dict[str, ChatClient],
        burst: Publisher,
        chance: random.Random,
    ) -> None:
        self._book = book
        self._postgres = postgres
        self._database_url = database_url
        self._nodes = nodes
        self._proxies = proxies
        self._clocks = clocks
        self._hints = hints
        self._subscribers = subscribers
        self._outcasts = outcasts
        self._clients = clients
        self._burst = burst
        self._random = chance
        self._restarting = {node.name: asyncio.Lock() for node in nodes}
        self._postgres_lock = asyncio.Lock()
        self._lasting: set[asyncio.Task[None]] = set()
        self.counts: dict[str, int] = {}
        self.exit_codes: list[int] = []
        """Exit codes of nodes that were asked to stop."""

    KINDS = (
        "kill a node",
        "kill postgres",
        "cut",
        "reset",
        "stall",
        "stall and cut",
        "slow client",
        "move clients",
        "clock jump",
        "hints lost",
        "hints doubled",
        "hints shuffled",
        "hints late",
        "hints foreign",
        "rolling restart",
        "revoke",
    )

    async def run(self, faults: int, kinds: Sequence[str] = KINDS) -> None:
        """Causes this many faults, each kind about equally often, and waits until all are over."""
        bag: list[str] = []
        for _ in range(faults):
            if not bag:
                bag = list(kinds)
                self._random.shuffle(bag)
            kind = bag.pop()
            self.counts[kind] = self.counts.get(kind, 0) + 1
            await getattr(self, "_" + kind.replace(" ", "_"))()
            await asyncio.sleep(self._random.uniform(*REST_SECONDS))
        await asyncio.gather(*self._lasting)

    def _note(self, what: str) -> None:
        self._book.add(lambda at: Fault(at, what))

    def _let_last(self, coroutine: Awaitable[None]) -> None:
        task = asyncio.ensure_future(coroutine)
        self._lasting.add(task)
        task.add_done_callback(self._lasting.discard)

    async def _bring_up(self, node: ServerProcess) -> None:
        while True:
            # If PostgreSQL is not there, the node ends at once, as it should.
            with contextlib.suppress(ServerFailed):
                await node.start()
                self._note(f"node {node.name} is up")
                return
            await node.kill()
            await asyncio.sleep(0.3)

    async def _kill_a_node(self) -> None:
        node = self._random.choice(self._nodes)

        async def again() -> None:
            async with self._restarting[node.name]:
                self._note(f"kill -9 of node {node.name}")
                await node.kill()
                await self._bring_up(node)

        self._let_last(again())

    async def _kill_postgres(self) -> None:
        async with self._postgres_lock:
            self._note("kill -9 of PostgreSQL")
            self._postgres.kill()
            await asyncio.sleep(self._random.uniform(0, 1.5))
            await asyncio.to_thread(self._postgres.start)
            self._note("PostgreSQL is up")

    async def _cut(self) -> None:
        self._let_last(self._cut_for(self._random.uniform(0.2, 3)))

    async def _cut_for(self, seconds: float) -> None:
        name = self._random.choice(list(self._proxies))
        self._note(f"node {name} is cut from PostgreSQL")
        self._proxies[name].cut()
        await asyncio.sleep(seconds)
        self._proxies[name].heal()
        self._note(f"node {name} may reach PostgreSQL again")

    async def _reset(self) -> None:
        name = self._random.choice(list(self._proxies))
        for _ in range(3):
            self._note(f"node {name}'s connections to PostgreSQL are reset")
            self._proxies[name].reset()
            await asyncio.sleep(self._random.uniform(0, 0.2))

    async def _stall(self) -> None:
        seconds = LONG_STALL_SECONDS if self._random.random() < 0.25 else self._random.uniform(0.3, 2)
        name = self._random.choice(list(self._proxies))

        async def stall() -> None:
            self._note(f"node {name}'s connections stall for {seconds:.1f} s")
            self._proxies[name].stall()
            await asyncio.sleep(seconds)
            self._proxies[name].heal()

        self._let_last(stall())

    async def _stall_and_cut(self) -> None:
        name = self._random.choice(list(self._proxies))
        self._note(f"node {name}'s connections stall, then are reset")
        self._proxies[name].stall()
        await asyncio.sleep(self._random.uniform(0.05, 0.4))
        self._proxies[name].reset()
        self._proxies[name].heal()

    async def _slow_client(self) -> None:
        subscriber = self._random.choice(self._subscribers)

        async def slow() -> None:
            self._note(f"{subscriber.name} stops reading")
            subscriber.pause()
            await asyncio.gather(*(self._burst.post(subscriber.channel_id, 16_384) for _ in range(60)))
            await asyncio.sleep(self._random.uniform(0, 2))
            subscriber.go_on()
            self._note(f"{subscriber.name} reads again")

        self._let_last(slow())

    async def _move_clients(self) -> None:
        movers = self._random.sample(self._subscribers, max(1, len(self._subscribers) // 2))
        self._note(f"{', '.join(mover.name for mover in movers)} drop their connections")
        for mover in movers:
            mover.drop()

    async def _clock_jump(self) -> None:
        name = self._random.choice(list(self._clocks))
        seconds = self._random.choice((-86_400, -3_600, -5, -0.5, 0, 0.5, 5, 3_600, 86_400))
        self._note(f"node {name}'s clock is off by {seconds} s")
        await asyncio.to_thread(self._clocks[name].write_text, str(seconds))

    async def _hints_lost(self) -> None:
        self._trouble_hints("lost")

    async def _hints_doubled(self) -> None:
        self._trouble_hints("doubled")

    async def _hints_shuffled(self) -> None:
        self._trouble_hints("shuffled")

    async def _hints_late(self) -> None:
        self._trouble_hints("late")

    def _trouble_hints(self, trouble: str) -> None:
        name, seconds = self._random.choice(list(self._hints)), self._random.uniform(0.5, 4)

        async def troubled() -> None:
            self._note(f"hints to node {name} are {trouble} for {seconds:.1f} s")
            await asyncio.to_thread(self._hints[name].write_text, trouble)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._hints[name].write_text, "")

        self._let_last(troubled())

    async def _hints_foreign(self) -> None:
        """Sends wrong hints to all nodes, on the notification channel that they listen to: those of another log (with
        another epoch, or of a copy), hints that cannot be read, and heads that are far too high in the earlier form,
        which does not name a log."""
        self._note("foreign hints")
        with contextlib.suppress(psycopg.Error, OSError):  # PostgreSQL may be away
            async with await psycopg.AsyncConnection.connect(self._database_url, autocommit=True) as connection:
                epoch, heads = await self._known(connection)
                parts = [
                    part
                    for statement in (postgresql._SYSTEM, postgresql._IDENTITY)
                    for row in await (await connection.execute(statement)).fetchall()
                    for part in row
                ]
                identity = ".".join(map(str, parts))
                name = log_name(epoch, identity)
                others = (log_name("another epoch", identity), log_name(epoch, "a copy"), name[:-1])
                for _ in range(20):
                    epoch, heads = await self._known(connection)
                    forged = [
                        Message(channel_id, head + i, "eve", "eve/1/.", None, None, None, datetime.now(UTC), epoch)
                        for channel_id, head in heads.items()
                        for i in range(1, 6)
                    ]
                    said = [payload.decode() for other in others for payload in encode(forged, other, bytes_max=7_900)]
                    (whole,) = encode(forged[:3], name)
                    said += [whole.decode()[:-9], f'["1:{name}",["red",1],{{}}]', f'["1:{name}"', "garbage", "[]"]
                    for channel, payloads in (
                        (f"raqcoon_{name}", said),
                        (EARLIER_NOTIFY_CHANNEL, ['[["red",900000],["nobody\'s",3]]', "garbage"]),
                    ):
                        await connection.execute(
                            "SELECT pg_notify(%s, p) FROM unnest(%s::text[]) AS p", (channel, payloads)
                        )
                    await asyncio.sleep(0.02)

    async def _known(self, connection: psycopg.AsyncConnection[Any]) -> tuple[str, dict[str, int]]:
        """The epoch of the log, and the heads of its channels."""
        row = await (await connection.execute("SELECT epoch FROM log_info")).fetchone()
        assert row is not None
        heads = await (await connection.execute("SELECT channel_id, last_sequence FROM channels")).fetchall()
        return str(row[0]), dict(heads)

    async def _revoke(self) -> None:
        """Revokes a subscriber's access for a while. Either all hints are lost in that time, or none. No other fault
        may happen at the same time: a node that does not run, or cannot reach the database, would not hear of it."""
        await asyncio.gather(*self._lasting)
        outcast, lost = self._random.choice(self._outcasts), self._random.random() < 0.5
        channel = outcast.channel_id if self._random.random() < 0.5 else None
        if lost:
            for path in self._hints.values():
                await asyncio.to_thread(path.write_text, "lost")
        try:
            self._note(f"{outcast.name} is revoked, hints are {'lost' if lost else 'heard'}")
            await self._insist(REVOKE, author=outcast.name, channelId=channel)
            self._book.add(lambda at: Revoked(at, outcast.channel_id, outcast.name))
            await asyncio.sleep(self._random.uniform(1.5, 3.0))
            self._book.add(lambda at: Restoring(at, outcast.channel_id, outcast.name))
            await self._insist(RESTORE, author=outcast.name, channelId=channel)
        finally:
            for path in self._hints.values() if lost else ():
                await asyncio.to_thread(path.write_text, "")

    async def _insist(self, mutation: str, **variables: Any) -> None:
        """Asks one node after the other, until one has done it."""
        while True:
            client = self._clients[self._random.choice(list(self._clients))]
            try:
                async with asyncio.timeout(8):
                    await client.ask(mutation, **variables)
                    return
            except (Failed, httpx.HTTPError, ValueError, TimeoutError):
                await asyncio.sleep(0.2)

    async def _rolling_restart(self) -> None:
        for node in self._nodes:
            async with self._restarting[node.name]:
                self._note(f"SIGTERM to node {node.name}")
                self.exit_codes.append(await node.stop())
                await self._bring_up(node)
