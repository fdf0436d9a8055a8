"""Commits batches of posts on a connection of its own, and replaces that connection when it is lost."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import TypeVar

from sqlalchemy import Connection, Engine, bindparam, delete, select, update
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError

from changes import ERASED_AUTHOR, ChangeDraft, MessageChange, MessageChangeKind
from errors import LogDamaged, RaqcoonError, Unavailable
from message_log.batch import Batch, Outcome
from message_log.damage import DamageLog
from message_log.dialect import Dialect, InDoubt, NotVouchedFor
from message_log.tables import changes, channels, growing, log_info, messages
from messages import Draft, Message

logger = logging.getLogger(__name__)

T = TypeVar("T")

SETTLE_SECONDS = 4.0
"""How long it tries to find out the outcome of a commit. After that the posters are told that it is unknown."""

# The messages that a channel holds have no gaps, so the oldest `batch` are a range of the key. One statement with one
# bound removes them: a reader sees the beginning of the channel either before or after that, but never a gap.
_OLDEST = (
    select(messages.c.sequence)
    .where(messages.c.channel_id == bindparam("channel_id"))
    .order_by(messages.c.sequence)
    .limit(1)
)
_REMOVE = delete(messages).where(
    messages.c.channel_id == bindparam("channel_id"), messages.c.sequence < bindparam("stop")
)
_REMOVE_GROWING = delete(growing).where(
    growing.c.channel_id == bindparam("channel_id"), growing.c.sequence < bindparam("stop")
)
_OLDEST_CHANGES = (
    select(changes.c.sequence, changes.c.message_sequence)
    .where(changes.c.channel_id == bindparam("channel_id"))
    .order_by(changes.c.sequence)
    .limit(bindparam("limit"))
)
_REMOVE_CHANGES = delete(changes).where(
    changes.c.channel_id == bindparam("channel_id"), changes.c.sequence < bindparam("stop")
)
# Removing locks the channel as appending does. So a piece is stored before its message is removed, or is refused.
_HOLD_CHANNEL = select(channels.c.last_change).where(channels.c.channel_id == bindparam("channel_id")).with_for_update()
_COUNT_CHANGES = (
    update(channels)
    .where(channels.c.channel_id == bindparam("in_channel"), channels.c.last_change < bindparam("removed"))
    .values(last_change=bindparam("removed"))
)
_TAKE_NAME = (
    update(changes)
    .where(
        changes.c.channel_id == bindparam("in_channel"),
        changes.c.sequence > bindparam("after"),
        changes.c.sequence <= bindparam("until"),
        changes.c.author == bindparam("name"),
    )
    .values(author=ERASED_AUTHOR)
)
_COUNT_NAMES = update(log_info).values(names_taken=log_info.c.names_taken + 1)


@dataclass(slots=True)
class Committed:
    """The result of some drafts: `outcomes[i]` answers the i-th, `messages` and `changes` are the new ones in commit
    order. If the outcome of an earlier batch was unknown and is known now, its messages and changes come first."""

    outcomes: list[Outcome]
    messages: list[Message]
    changes: list[MessageChange]


class Committer:
    """The only object that appends to the log in this process. One thread uses it, except for `abort`; `commit` blocks.

    Args:
        scrubbed: whether the log's files hold nothing any more of what earlier processes have erased.
    """

    def __init__(
        self, dialect: Dialect, engine: Engine, *, epoch: str, now: Callable[[], datetime], scrubbed: bool = True
    ) -> None:
        self._dialect = dialect
        self._engine = engine
        self._epoch = epoch
        self._now = now
        self._connection: Connection | None = None
        self._failures = 0
        self._damage = DamageLog()
        self.committed_at = -math.inf
        """When the database last accepted a commit, on the monotonic clock. Other threads read it."""
        self._unscrubbed = not scrubbed
        self._not_told: list[Batch] = []
        """Batches that were committed without telling anybody, since it was not certain that the next server would find
        them."""
        self._lock = Lock()
        self._in_use: DBAPIConnection | None = None

    def commit(self, drafts: Sequence[Draft | ChangeDraft]) -> Committed:
        """Stores the posts and changes of all drafts in one transaction. Never raises: every failure is an outcome.

        When the database refuses a post, or is damaged at its place, the batch is halved until the refused post is
        alone, so the others succeed. Any other failure is `Unavailable` for the whole batch.
        """
        try:
            batch = self._transact(drafts)
        except NotVouchedFor as doubt:
            self._not_told.append(doubt.batch)
            self.close()
            self._note_failure(doubt)
            return Committed([Unavailable() for _ in drafts], [], [])
        except Exception as error:
            damaged = self._dialect.damaged(error)
            if not damaged and not self._dialect.blames_post(error):
                self.close()
                self._note_failure(error)
                return Committed([Unavailable() for _ in drafts], [], [])
            if len(drafts) == 1:
                if damaged:
                    self._damage.note(error)
                return Committed([LogDamaged() if damaged else error], [], [])
            half = len(drafts) // 2
            first, second = self.commit(drafts[:half]), self.commit(drafts[half:])
            return Committed(
                first.outcomes + second.outcomes, first.messages + second.messages, first.changes + second.changes
            )
        self._note_success()
        committed = Committed(batch.outcomes, batch.messages, batch.changes)
        if self._not_told:
            told = [*self._not_told, batch]
            self._not_told = []
            committed.messages = [message for each in told for message in each.messages]
            committed.changes = [change for each in told for change in each.changes]
        if any(change.kind is MessageChangeKind.ERASED for change in committed.changes):
            self._unscrubbed = True
            self.scrub()
        return committed

    def scrub(self) -> bool:
        """Overwrites what erased messages have left in the files. False while readers are in the way."""
        if self._unscrubbed:
            try:
                with self._driver() as driver:
                    self._unscrubbed = not self._dialect.scrub(driver)
                if not self._unscrubbed and self._dialect.exclusive:
                    # Connections keep pages that they have read, and statements keep their last parameters.
                    self.close()
                    self._engine.dispose()
            except Exception as error:
                logger.warning("what was erased cannot be overwritten yet: %s", " ".join(str(error).split()))
        return not self._unscrubbed

    def prove(self) -> None:
        """Finds out whether posts would be stored.

        Raises:
            Unavailable: they would not.
        """
        try:
            with self._driver() as driver:
                self._dialect.prove(driver)
        except Exception as error:
            self.close()
            self._note_failure(error)
            raise Unavailable from error
        self._note_success()

    def remove(self, channel_id: str, before: int, batch: int) -> int:
        """Removes the oldest messages of a channel with a sequence below `before`, at most `batch`. Returns how many.

        Raises:
            Unavailable: the database failed; whether this batch was removed is unknown.
        """
        with self._connected() as connection:
            oldest = connection.scalar(_OLDEST, {"channel_id": channel_id})
            if oldest is None or oldest >= before:
                return 0
            stop = min(before, oldest + batch)
            with self._holding(connection, channel_id):
                removed = connection.execute(_REMOVE, {"channel_id": channel_id, "stop": stop}).rowcount
                connection.execute(_REMOVE_GROWING, {"channel_id": channel_id, "stop": stop})
            return removed

    def take_name(self, author: str, channel_id: str, after: int, until: int) -> int:
        """Removes an author's name from the changes of a channel with `after` < sequence <= `until`. Returns from how
        many.

        Raises:
            Unavailable: the database failed. It may be repeated.
        """
        given = {"in_channel": channel_id, "after": after, "until": until, "name": author}
        with self._connected() as connection, self._transaction(connection):
            taken = connection.execute(_TAKE_NAME, given).rowcount
            if taken:
                connection.execute(_COUNT_NAMES)
        if taken:
            self._unscrubbed = True
        return taken

    def remove_changes(self, channel_id: str, before: int, batch: int) -> int:
        """Removes a channel's oldest changes, up to the first one whose message has a sequence of `before` or more, at
        most `batch`. Returns how many. So a change is removed after its message and those before it, without a gap.

        Raises:
            Unavailable: the database failed; whether this batch was removed is unknown.
        """
        with self._connected() as connection:
            stop = None
            rows = connection.execute(_OLDEST_CHANGES, {"channel_id": channel_id, "limit": batch})
            for sequence, message_sequence in rows.all():
                if message_sequence >= before:
                    break
                stop = sequence + 1
            if stop is None:
                return 0
            with self._holding(connection, channel_id):
                connection.execute(_COUNT_CHANGES, {"in_channel": channel_id, "removed": stop - 1})
                return connection.execute(_REMOVE_CHANGES, {"channel_id": channel_id, "stop": stop}).rowcount

    def change(self, work: Callable[[Connection], T]) -> T:
        """Runs work that may be repeated. Runs it once more if the connection was lost.

        Raises:
            Unavailable: the database failed; whether the work was done is unknown.
        """
        for last_try in (False, True):
            try:
                with self._driver() as driver:
                    assert self._connection is not None
                    done = work(self._connection)
                    self._dialect.prove(driver)  # The file may have been removed; then the work was lost with it.
                    return done
            except RaqcoonError:
                raise
            except Exception as error:
                self.close()
                if last_try:
                    self._note_failure(error)
                    raise Unavailable from error
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Drops the connection; the next commit makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()
            connection.close()

    def abort(self) -> None:
        """Makes a transaction that hangs fail. Any thread may call it."""
        with self._lock:
            if self._in_use is not None:
                self._dialect.abort(self._in_use)

    def _note_success(self) -> None:
        self.committed_at = time.monotonic()
        if self._failures:
            logger.warning("posts are committed again, after %d failures", self._failures)
            self._failures = 0

    def _note_failure(self, error: Exception) -> None:
        # Logged once in each outage and not for each batch, since posters retry.
        self.committed_at = -math.inf
        if not self._failures:
            logger.warning("posts cannot be committed: %s", " ".join(str(error).split()))
        self._failures += 1

    def _transact(self, drafts: Sequence[Draft | ChangeDraft]) -> Batch:
        for last_try in (False, True):
            try:
                with self._driver() as driver:
                    return self._dialect.append(driver, drafts, self._now(), self._epoch)
            except InDoubt as doubt:
                if (batch := self._settled(doubt)) is not None:
                    return batch
                if last_try:
                    raise
            except Exception:
                if last_try or self._connection is None or not self._dialect.lost(self._raw(self._connection)):
                    raise
                self.close()
        raise AssertionError("unreachable")

    def _settled(self, doubt: InDoubt) -> Batch | None:
        give_up = time.monotonic() + SETTLE_SECONDS
        while True:
            self.close()
            try:
                with self._driver() as driver:
                    return self._dialect.settle(driver, doubt)
            except Exception as error:
                if time.monotonic() > give_up:
                    raise
                logger.info("a commit is still in doubt: %s", error)
                time.sleep(0.1)

    @contextmanager
    def _driver(self) -> Iterator[DBAPIConnection]:
        if self._connection is None:
            self._connection = self._engine.connect()
        driver = self._raw(self._connection)
        with self._lock:
            self._in_use = driver
        try:
            yield driver
        finally:
            with self._lock:
                self._in_use = None

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """The connection, for work that is not repeated here.

        Raises:
            Unavailable: the database failed. The connection is dropped then.
        """
        try:
            with self._driver():
                assert self._connection is not None
                yield self._connection
        except SQLAlchemyError as error:
            self.close()
            self._note_failure(error)
            raise Unavailable from error

    @contextmanager
    def _holding(self, connection: Connection, channel_id: str) -> Iterator[None]:
        with self._transaction(connection):
            connection.execute(_HOLD_CHANNEL, {"channel_id": channel_id})
            yield

    @contextmanager
    def _transaction(self, connection: Connection) -> Iterator[None]:
        """A transaction that writes. One that fails ends with the connection, which the caller then closes."""
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.dialect.name == "sqlite" else "BEGIN")
        yield
        connection.exec_driver_sql("COMMIT")

    @staticmethod
    def _raw(connection: Connection) -> DBAPIConnection:
        driver: DBAPIConnection | None = connection.connection.driver_connection
        assert driver is not None
        return driver
