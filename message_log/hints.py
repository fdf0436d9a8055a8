"""Hints between the processes that share one PostgreSQL log, by NOTIFY: each commit, with its messages where they fit.

A hint is disposable: losing one delays a message until the next sweep reads the heads. So nothing here is retried and
nothing is stored. A hint is sent after its commit is known, never before. What a payload says is taken for this log's
own only if it names this log (see `wire`), and the engine delivers of it only what continues a channel's head.

**Who can hear and say hints.** NOTIFY and LISTEN need no right but to connect to the database. So the name of the
channel is made of the log's epoch, a random name that only who may read the log's tables can know, and of the
database's own identity, which tells a log from its copy: who merely may connect hears nothing and can say nothing, and
logs that share a database do not hear each other.

**Older nodes** say and hear how far channels have come, on a channel with a fixed name. This one listens to that too;
they learn of what this one commits by their sweep.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from hashlib import blake2b
from typing import Any

import psycopg
from psycopg import sql

from changes import MessageChange
from message_log.protocol import Commit, LogListener
from message_log.wire import NotForThisLog, Reached, Told, decode, decode_heads, encode
from messages import Message

logger = logging.getLogger(__name__)

EARLIER_NOTIFY_CHANNEL = "raqcoon_hints"
"""Where nodes of the version before this one say how far channels have come."""
PAYLOAD_BYTES_MAX = 7_900
"""PostgreSQL takes less than 8,000 bytes."""
GATHERED_BYTES_MAX = 4 * 1024 * 1024
"""What waits to be told holds at most about so much memory. Past it only sequences are told: the log has the rest."""
WINDOW_SECONDS = 0.003
"""How long hints gather. NOTIFY takes one lock for the whole cluster while it commits: not one for each post."""
_BACKOFF_SECONDS = (0.1, 5.0)

Connect = Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]


def log_name(epoch: str, identity: str) -> str:
    """What names a log among all logs: its numbering and the place where it lies. A digest that gives away neither."""
    return blake2b(identity.encode(), key=epoch.encode()[:64], digest_size=16, person=b"raqcoon log name").hexdigest()


class Hints:
    """Tells the other processes of this one's commits and listens to theirs, on two connections of its own.

    NOTIFY runs outside the posting transaction, where its lock would make every commit of the cluster wait in line.
    """

    def __init__(self, connect: Connect, listener: LogListener, *, epoch: str, identity: str) -> None:
        self._connect = connect
        self._listener = listener
        self._epoch = epoch
        self._name = log_name(epoch, identity)
        self.notify_channel = f"raqcoon_{self._name}"
        self._gathered: list[Told] = []
        self._gathered_bytes = 0
        self._news = asyncio.Event()
        self._own_pid: int | None = None
        self._tasks = [
            asyncio.create_task(self._again_and_again(self._tell), name="raqcoon-notify"),
            asyncio.create_task(self._again_and_again(self._listen), name="raqcoon-listen"),
        ]

    def announce(self, commit: Commit) -> None:
        """Tells, soon, of a commit of this process. Never blocks, never fails."""
        if self._own_pid is None:
            return  # Nobody could be told; the sweeps of the others will see it.
        for entries in (commit.messages, commit.changes):
            self._gathered += entries
            self._gathered_bytes += sum(entry.size_bytes for entry in entries)
        if self._gathered_bytes > GATHERED_BYTES_MAX:
            # How far each channel has come says enough.
            latest = {(reached.channel_id, reached.of_changes): reached for reached in map(Reached.by, self._gathered)}
            self._gathered = [*latest.values()]
            self._gathered_bytes = 0
        self._news.set()

    async def stop(self) -> None:
        """Ends both connections; hints not yet sent are lost, as any hint may be. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _again_and_again(self, work: Callable[[psycopg.AsyncConnection[Any]], Awaitable[None]]) -> None:
        first, longest = _BACKOFF_SECONDS
        pause = first
        while True:
            try:
                async with await self._connect() as connection:
                    pause = first
                    await work(connection)
            except (psycopg.Error, OSError) as error:
                level = logging.WARNING if pause == first else logging.DEBUG  # once an outage
                logger.log(level, "hints pause: %s", " ".join(str(error).split()))
            except Exception:
                # A defect; without hints every message of other nodes would wait for the sweep from now on.
                logger.exception("hints have failed, and begin anew")
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(2 * pause, longest)

    async def _tell(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._own_pid = connection.info.backend_pid
        try:
            while True:
                await self._news.wait()
                await asyncio.sleep(WINDOW_SECONDS)
                self._news.clear()
                if payloads := self._take():
                    await connection.execute(
                        "SELECT pg_notify(%s, p) FROM unnest(%s::text[]) AS p", (self.notify_channel, payloads)
                    )
        finally:
            self._own_pid = None
            self._take()

    def _take(self) -> list[str]:
        entries, self._gathered, self._gathered_bytes = self._gathered, [], 0
        return [payload.decode() for payload in encode(entries, self._name, bytes_max=PAYLOAD_BYTES_MAX)]

    async def _listen(self, connection: psycopg.AsyncConnection[Any]) -> None:
        for channel in (self.notify_channel, EARLIER_NOTIFY_CHANNEL):
            await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
        self._listener.missed()  # While nobody listened, anything may have been said.
        async for notification in connection.notifies():
            if notification.pid != self._own_pid:
                self._hear(notification.channel, notification.payload)

    def _hear(self, channel: str, payload: str) -> None:
        try:
            if channel == self.notify_channel:
                entries = decode(payload, self._name, self._epoch)
            else:
                entries = [*decode_heads(payload)]
        except NotForThisLog:
            self._listener.misheard()
            return
        heads = [entry for entry in entries if isinstance(entry, Reached)]
        commit = Commit(
            [entry for entry in entries if isinstance(entry, Message)],
            [entry for entry in entries if isinstance(entry, MessageChange)],
        )
        if commit.messages or commit.changes:
            self._listener.heard(commit)
        for head in heads:
            hinted = self._listener.hinted_changes if head.of_changes else self._listener.hinted
            hinted(head.channel_id, head.sequence)
