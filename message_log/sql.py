"""The message log over SQL: SQLite for one server, PostgreSQL for many. See `protocol` for what it promises."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from changes import ChangeDraft
from errors import LogDamaged, StartupError, Unavailable
from message_log import revocations
from message_log.change_queries import ChangeQueries
from message_log.committer import Committer
from message_log.database_url import dialect_of
from message_log.dialect import Dialect
from message_log.draft_text import content_bytes
from message_log.hints import Hints
from message_log.migrate import migrate
from message_log.protocol import Appended, Commit, LogListener
from message_log.queries import Queries, Stretch
from message_log.readers import Readers
from message_log.revocation_watch import RevocationWatch
from message_log.revocations import RevocationSet
from message_log.sql_changes import SqlChangeLog
from message_log.sql_reads import SqlReads
from message_log.tables import log_info
from message_log.taking_turns import TakingTurns
from message_log.writer import Poster, Writer, WriterLimits
from message_rows import to_microseconds
from messages import Draft, Revocation

logger = logging.getLogger(__name__)

T = TypeVar("T")

_CHANNELS_PAGE = 500
REVOKING_MAX = 100
"""How many revocations may wait. Each is a commit of its own, and between two of them posts are committed."""
PROBE_SECONDS = 1.0
"""How long `ready` waits at most: a balancer asks every few seconds, and takes a missing answer as a no."""

PROVEN_SECONDS = 1.0
"""For how long a commit counts as proof that the next one would succeed."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What an open log consists of."""

    engine: Engine
    committer: Committer
    hints: Hints | None
    writer: Writer
    readers: Readers
    probe: Readers
    """Only for `ready` and the watch. Many reads must not make it look as if the database were gone, on all nodes at
    the same time; and they must not delay a revocation."""
    queries: Queries
    change_queries: ChangeQueries
    listener: LogListener
    watch: RevocationWatch


class SqlMessageLog(SqlReads):
    """Implements `protocol.MessageLog`.

    Args:
        url: `sqlite:///path` (relative), `sqlite:////path` (absolute) or `postgresql://user:password@host:port/name`.
        notify_url: where LISTEN and NOTIFY go instead, when `url` names a pooler in transaction mode.
        now: the clock that stamps messages: an aware datetime.
        readers: threads, each with a connection, that answer everything but `append`.
        limits: bounds of a commit and of what waits for one.
    """

    def __init__(
        self,
        url: str,
        *,
        notify_url: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        readers: int = 4,
        limits: WriterLimits | None = None,
    ) -> None:
        self._notify_url = notify_url
        self._dialect = self._speaks(url)
        self._now = now
        self._reader_threads = readers
        self._limits = limits or WriterLimits()
        self.revoked: Final = RevocationSet()
        self._revoking = TakingTurns(REVOKING_MAX)
        self._parts: Parts | None = None
        self._epoch: str | None = None
        self._proof: asyncio.Task[None] | None = None
        self.changes = SqlChangeLog(self._ask_changes, lambda: self.epoch, exclusive=self._dialect.exclusive)
        self._identity = ""

    def _speaks(self, url: str) -> Dialect:
        return dialect_of(url, self._notify_url)

    @property
    def epoch(self) -> str:
        if self._epoch is None:
            raise RuntimeError("the log was never opened")
        return self._epoch

    @property
    def exclusive(self) -> bool:
        return self._dialect.exclusive

    @property
    def location(self) -> str:
        return self._dialect.location

    async def open(self, listener: LogListener) -> None:
        if self._parts is not None:
            raise RuntimeError("the log is open already")
        engine, epoch, scrubbed = await asyncio.to_thread(self._prepare)
        committer = Committer(self._dialect, engine, epoch=epoch, now=self._now, scrubbed=scrubbed)
        self._epoch = epoch
        hints = self._dialect.hints(listener, epoch=epoch, identity=self._identity)

        def publish(commit: Commit) -> None:
            listener.committed(commit)
            if hints is not None:
                hints.announce(commit)

        self._parts = Parts(
            engine=engine,
            committer=committer,
            hints=hints,
            writer=Writer(committer.commit, committer.abort, publish, self._limits, self.revoked.forbids_post),
            readers=Readers(
                self._dialect, engine, threads=self._reader_threads, timeout_seconds=self._limits.timeout_seconds
            ),
            probe=Readers(self._dialect, engine, threads=1, timeout_seconds=PROBE_SECONDS),
            queries=Queries(self._dialect, epoch),
            change_queries=ChangeQueries(self._dialect, epoch),
            listener=listener,
            watch=self._watch(listener),
        )
        await self._begin_watch()

    async def close(self) -> None:
        parts = self._parts
        if parts is None:
            return
        await parts.watch.stop()
        await parts.writer.stop()
        if self._proof is not None:
            await asyncio.wait([self._proof])
        if parts.hints is not None:
            await parts.hints.stop()
        await parts.readers.stop()
        await parts.probe.stop()
        self._parts = None
        await asyncio.to_thread(self._let_go, parts)

    async def append(self, draft: Draft) -> Appended:
        return await self._open_parts().writer.post(draft, content_bytes(draft))

    async def change(self, draft: ChangeDraft) -> Appended:
        return await self._open_parts().writer.post(draft, content_bytes(draft))

    def append_for(self, draft: Draft, poster: Poster) -> None:
        """`append` for another kind of poster. It is told in the same loop step as the listener, right after it.

        Raises:
            BadUserInput, Unavailable: nothing was stored, and the poster is not told.
        """
        self._open_parts().writer.post_for(draft, content_bytes(draft), poster)

    async def revoke(self, revocation: Revocation) -> None:
        parts, now, known = self._open_parts(), self._now(), self.revoked
        loop = asyncio.get_running_loop()

        def work() -> None:
            version = parts.committer.change(lambda connection: revocations.revoke(connection, revocation, now))
            # Done in the thread that commits posts, so that the next batch obeys it already, whether or not the caller
            # still waits. The listener is told on the loop before the caller.
            found = known.add(version, revocation)
            loop.call_soon_threadsafe(parts.listener.revoked, found)

        async with self._revoking:
            await parts.writer.run(work)

    async def restore(self, author: str, channel_id: str | None) -> bool:
        parts, now, known = self._open_parts(), self._now(), self.revoked

        def work() -> bool:
            version, found = parts.committer.change(
                lambda connection: revocations.restore(connection, author, channel_id, now)
            )
            known.discard(version, author, channel_id)
            return found

        async with self._revoking:
            return await parts.writer.run(work)

    async def take_name(self, author: str, channel_id: str, after: int, until: int) -> int:
        parts = self._open_parts()
        return await parts.writer.run(lambda: parts.committer.take_name(author, channel_id, after, until))

    async def scrub(self) -> bool:
        parts = self._open_parts()
        return await parts.writer.run(parts.committer.scrub)

    async def remove_before(self, channel_id: str, sequence: int, *, batch: int = 500) -> int:
        """Removes the messages of a channel below `sequence`, oldest first, and returns how many there were.

        Removes at most `batch` at a time, and posts are stored in between. With a message goes its idempotency key.
        Counters and totals stay: they tell what was posted, not what is held.
        """
        parts = self._open_parts()
        removed = 0
        while count := await parts.writer.run(lambda: parts.committer.remove(channel_id, sequence, batch)):
            removed += count
        while await parts.writer.run(lambda: parts.committer.remove_changes(channel_id, sequence, batch)):
            pass
        return removed

    async def remove_older_than(self, moment: datetime, *, batch: int = 500) -> int:
        """Removes from every channel the messages that come before its first one stamped at `moment` or later, as
        `remove_before` does, and returns how many there were.

        So a message that a wrong clock stamped too early stays until those before it may go. There is never a gap.
        """
        removed = 0
        after: str | None = None
        while page := await self.stretches(after=after, limit=_CHANNELS_PAGE):
            for stretch in page:
                removed += await self._remove_older(stretch, to_microseconds(moment), batch)
            after = page[-1].channel_id
        return removed

    async def _remove_older(self, stretch: Stretch, moment: int, batch: int) -> int:
        removed = 0
        while (first := await self.first_since(stretch, moment, batch)) > stretch.oldest_sequence:
            removed += await self.remove_before(stretch.channel_id, first, batch=batch)
            stretch = replace(stretch, oldest_sequence=first)
        return removed

    async def ready(self) -> bool:
        parts = self._parts
        if parts is None or not parts.writer.alive:
            return False
        try:
            await parts.probe.run(lambda connection: connection.scalar(select(log_info.c.epoch)))
            await self._prove(parts)
        except (Unavailable, LogDamaged):
            return False
        return True

    async def _prove(self, parts: Parts) -> None:
        """Makes sure that posts can be stored: a commit has succeeded a moment ago, or an empty commit succeeds now."""
        if time.monotonic() - parts.committer.committed_at < PROVEN_SECONDS:
            return
        if self._proof is None or self._proof.done():
            # One at a time, however many ask. It is a task of its own, since the request that began it may go away.
            self._proof = asyncio.get_running_loop().create_task(
                parts.writer.run(parts.committer.prove, timeout_seconds=PROBE_SECONDS)
            )
            self._proof.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._proof)

    def _open_parts(self) -> Parts:
        if self._parts is None:
            raise Unavailable("The message log is closed.")
        return self._parts

    def _watch(self, listener: LogListener) -> RevocationWatch:
        return RevocationWatch(self._revocations_version, self._read_revocations, self.revoked, listener.revoked)

    async def _begin_watch(self) -> None:
        try:
            await self._open_parts().watch.start()
        except Unavailable as error:
            await self.close()
            raise StartupError(f"the revocations in {self.location} cannot be read: {error}") from None

    async def _revocations_version(self) -> int:
        return await self._open_parts().probe.run(revocations.version)

    async def _read_revocations(self) -> tuple[int, Sequence[Revocation]]:
        return await self._open_parts().probe.run(revocations.read)

    async def _ask(self, query: Callable[[Queries, Connection], T]) -> T:
        parts = self._open_parts()
        return await parts.readers.run(lambda connection: query(parts.queries, connection))

    async def _ask_changes(self, query: Callable[[ChangeQueries, Connection], T]) -> T:
        parts = self._open_parts()
        return await parts.readers.run(lambda connection: query(parts.change_queries, connection))

    def _prepare(self) -> tuple[Engine, str, bool]:
        self._dialect.claim()
        engine: Engine | None = None
        try:
            engine = self._dialect.engine(self._reader_threads + 2)  # The writer's and the probe's.
            with engine.connect() as connection:
                self._dialect.begin_migration(connection)
                epoch = migrate(connection, self._dialect.location)
                self._dialect.tidy(connection)
                connection.exec_driver_sql("COMMIT")
                self._identity = self._dialect.identify(connection)
                # A process that was killed may not have overwritten everything that it had erased.
                driver = connection.connection.driver_connection
                assert driver is not None
                scrubbed = self._dialect.scrub(driver)
        except BaseException as error:
            if engine is not None:
                engine.dispose()
            self._dialect.release()
            if isinstance(error, SQLAlchemyError):
                cause = " ".join(str(getattr(error, "orig", None) or error).split())
                raise StartupError(f"the database {self._dialect.location} cannot be used: {cause}") from error
            raise
        return engine, epoch, scrubbed

    def _let_go(self, parts: Parts) -> None:
        parts.committer.close()
        parts.engine.dispose()
        self._dialect.release()
