"""Hints between the processes that share one PostgreSQL log, by NOTIFY: each commit, with its messages if they fit.

A hint may be lost: that only delays a message until the next sweep reads the heads. So nothing here is retried and
nothing is stored. A hint is sent after its commit is known, never before. A payload counts only if it names this log
(see `wire`), and the engine delivers only those of its messages that follow a channel's head without a gap.

**Who can hear and send hints.** NOTIFY and LISTEN need no other right than to connect to the database. So the name of
the channel is made of two things: the log's epoch, which is random and can only be known by those who may read the
log's tables; and the identity of the database, which tells a log from its copy. So somebody who may only connect hears
nothing and can send nothing, and logs that share a database do not hear each other.

**Older nodes** send and hear how far channels have come, on a channel with a fixed name. This node listens to that
channel too. The older nodes learn of its commits by their sweep.
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
"""The channel on which nodes of the version before this one tell how far channels have come."""
PAYLOAD_BYTES_MAX = 7_900
"""PostgreSQL takes less than 8,000 bytes."""
GATHERED_BYTES_MAX = 4 * 1024 * 1024
"""About how much memory the hints that wait may take. Past it only sequences are sent: the log has the rest."""
WINDOW_SECONDS = 0.003
"""How long hints are gathered. NOTIFY takes a lock of the whole cluster while it commits, so it is not sent for each
post."""
_BACKOFF_SECONDS = (0.1, 5.0)

Connect = Callable[[], Awaitable[psycopg.AsyncConnection[Any]]]


def log_name(epoch: str, identity: str) -> str:
    """The name of a log among all logs, made of its epoch and the identity of its database. It is a digest, which
    reveals neither of them."""
    return blake2b(identity.encode(), key=epoch.encode()[:64], digest_size=16, person=b"raqcoon log name").hexdigest()


class Hints:
    """Tells the other processes of this one's commits and listens to theirs, on two connections of its own.

    NOTIFY runs outside the transaction that posts: inside, its lock would make all commits of the cluster wait for each
    other.
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
        """Tells the others of a commit of this process, a moment later. Never blocks, never fails."""
        if self._own_pid is None:
            return  # There is no connection to tell the others. Their sweeps will find it.
        for entries in (commit.messages, commit.changes):
            self._gathered += entries
            self._gathered_bytes += sum(entry.size_bytes for entry in entries)
        if self._gathered_bytes > GATHERED_BYTES_MAX:
            # It is enough to tell how far each channel has come.
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
                level = logging.WARNING if pause == first else logging.DEBUG  # a warning once in each outage
                logger.log(level, "hints pause: %s", " ".join(str(error).split()))
            except Exception:
                # This is a defect. Without a new attempt, all messages of other nodes would wait for the sweep from now
                # on.
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
        self._listener.missed()  # Hints may have been sent before this process listened.
        await self._hear_all(connection)

    async def _hear_all(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Hears what is said until the connection is lost. The socket is read in the callback that says it is readable:
        `notifies` of psycopg takes several steps of a task for each arrival, a tenth of a busy node's time.
        """
        loop = asyncio.get_running_loop()
        lost: asyncio.Future[None] = loop.create_future()
        driver = connection.pgconn

        def read() -> None:
            try:
                driver.consume_input()
                while (notification := driver.notifies()) is not None:
                    if notification.be_pid != self._own_pid:
                        self._hear(notification.relname.decode(), notification.extra.decode())
            except Exception as error:
                if not lost.done():
                    lost.set_exception(error)

        descriptor = driver.socket
        loop.add_reader(descriptor, read)
        try:
            read()  # What came before somebody listened for it.
            await lost
        finally:
            loop.remove_reader(descriptor)

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
