"""Copies a whole log to another database. Sequences, ids, idempotency keys, timestamps, totals and epoch stay the same,
so every cursor that clients hold stays valid.

After an interruption it can be run again, and goes on where it stopped. So it can be run once while a PostgreSQL server
is running, and once more, which takes only a moment, when that server is stopped.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from changes import ERASED_AUTHOR
from errors import StartupError
from message_log.change_queries import last_change
from message_log.change_rows import of_message
from message_log.database_url import dialect_of
from message_log.dialect import Dialect
from message_log.earlier import EarlierLog, is_earlier_log
from message_log.migrate import migrate
from message_log.repairs import Repairs
from message_log.source import Row, Source, SourceChannel
from message_log.tables import changes, channels, growing, log_info, messages, revocations, totals

Progress = Callable[[int, int], None]
"""Called with the number of messages that the target holds now, and the number that the source holds."""

_FIXED = ("channel_id", "sequence", "timestamp")
_COMPARED = ("channel_id", "sequence", "timestamp", "author", "lane", "provider", "token_count", "content")


class _Database:
    """The database of a log, locked as a server would lock it, on one connection without time limits."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self.location = dialect.location
        dialect.claim()
        engine = dialect.engine(1)
        self._stack = ExitStack()
        self._stack.callback(dialect.release)
        self._stack.callback(engine.dispose)
        try:
            self.connection = self._stack.enter_context(engine.connect())
            dialect.begin_migration(self.connection)
            self.epoch = migrate(self.connection, dialect.location)
            self.connection.exec_driver_sql("COMMIT")
            if not dialect.exclusive:
                for timeout in ("statement_timeout", "idle_in_transaction_session_timeout"):
                    self.connection.exec_driver_sql(f"SET {timeout} = 0")
        except BaseException as error:
            self.close()
            if isinstance(error, SQLAlchemyError):
                cause = " ".join(str(getattr(error, "orig", None) or error).split())
                raise StartupError(f"the database {dialect.location} cannot be used: {cause}") from error
            raise

    def close(self) -> None:
        self._stack.close()


def open_database(url: str) -> _Database:
    """The log at `url`, migrated and locked as a server would do it.

    Raises:
        StartupError: a running server holds it, or it cannot be used.
    """
    return _Database(dialect_of(url))


class _SqlSource(_Database):
    """A log of this server as a source. Each channel is read in one snapshot, even if clients post meanwhile."""

    def count(self) -> int:
        return self.connection.scalar(select(func.count()).select_from(messages)) or 0

    def channels(self) -> Iterator[SourceChannel]:
        ids = self.connection.scalars(select(channels.c.channel_id).order_by(channels.c.channel_id)).all()
        snapshot = "BEGIN" if self._dialect.exclusive else "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        for channel_id in ids:
            self.connection.exec_driver_sql(snapshot)
            heads = select(channels.c.last_sequence, last_change(self._dialect))
            last, changed = self.connection.execute(heads.where(channels.c.channel_id == channel_id)).one()
            grow = self.connection.execute(select(growing).where(growing.c.channel_id == channel_id)).mappings()
            counted = self.connection.execute(select(totals).where(totals.c.channel_id == channel_id)).mappings()
            yield SourceChannel(channel_id, last, [dict(row) for row in counted], changed, [dict(row) for row in grow])
            self.connection.exec_driver_sql("COMMIT")

    def revocations(self) -> list[Row]:
        return [dict(row) for row in self.connection.execute(select(revocations)).mappings()]

    def rows(self, channel_id: str, after: int) -> Iterator[Row]:
        page = (
            select(messages)
            .where(messages.c.channel_id == channel_id, messages.c.sequence > bindparam("after"))
            .order_by(messages.c.sequence)
            .limit(1000)
        )
        while rows := self.connection.execute(page, {"after": after}).mappings().all():
            yield from map(dict, rows)
            after = rows[-1]["sequence"]

    def changes(self, channel_id: str, after: int) -> Iterator[Row]:
        page = (
            select(changes)
            .where(changes.c.channel_id == channel_id, changes.c.sequence > bindparam("after"))
            .order_by(changes.c.sequence)
            .limit(1000)
        )
        while rows := self.connection.execute(page, {"after": after}).mappings().all():
            yield from map(dict, rows)
            after = rows[-1]["sequence"]

    def nameless_changes(self, channel_id: str, until: int) -> Iterator[int]:
        here = changes.c.channel_id == channel_id, changes.c.author == ERASED_AUTHOR
        after = 0
        while True:
            page = (
                select(changes.c.sequence)
                .where(*here, changes.c.sequence > after, changes.c.sequence <= until)
                .order_by(changes.c.sequence)
                .limit(1000)
            )
            found = self.connection.scalars(page).all()
            if not found:
                return
            yield from found
            after = found[-1]

    def changed(self, channel_id: str, message_sequence: int) -> tuple[Row | None, list[Row]]:
        here = messages.c.channel_id == channel_id, messages.c.sequence == message_sequence
        row = self.connection.execute(select(messages).where(*here)).mappings().first()
        made = self.connection.execute(of_message(changes.c, channel_id, message_sequence, 0)).mappings()
        each = {change["sequence"]: dict(change) for change in made}
        return None if row is None else dict(row), list(each.values())

    def oldest_change(self, channel_id: str) -> int:
        here = changes.c.channel_id == channel_id
        oldest = self.connection.scalar(select(func.min(changes.c.sequence)).where(here))
        return 2**63 - 1 if oldest is None else oldest


def copy_log(
    source_url: str,
    target_url: str,
    *,
    progress: Progress | None = None,
    batch: int = 1000,
    repairs: Repairs | None = None,
) -> int:
    """Copies a log, or the missing part of it, and returns how many messages were copied.

    What could not be read through the server at the target is changed on the way; `repairs` tells what was changed.

    The target must be empty, or a part of the same log that was copied before. No server may use it meanwhile. No
    server may use a SQLite source either. Every batch of messages is one transaction.

    Raises:
        StartupError: a database cannot be used, or the target holds another log; the text is one line.
    """
    if batch < 1:
        raise ValueError("batch must be positive")
    source = _open_source(source_url)
    try:
        target = open_database(target_url)
        try:
            return _Copy(source, target, progress or (lambda held, total: None), batch, repairs or Repairs()).run()
        except SQLAlchemyError as error:
            cause = " ".join(str(getattr(error, "orig", None) or error).split())
            raise StartupError(f"copying stopped, and may be started again: {cause}") from error
        finally:
            target.close()
    finally:
        source.close()


def _open_source(url: str) -> Source:
    if url.startswith(("postgresql:", "postgres:")):
        return _SqlSource(dialect_of(url))
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise StartupError("the source's URL cannot be read; write sqlite:///path or postgresql://host/name") from None
    if parsed.drivername == "sqlite" and parsed.database:
        path = Path(parsed.database).expanduser()
        if is_earlier_log(path):
            return EarlierLog(path)
        if not path.is_file():
            raise StartupError(f"there is no SQLite file {path} to copy from")
    return _SqlSource(dialect_of(url))


class _Copy:
    """One run from a source to a target."""

    def __init__(self, source: Source, target: _Database, progress: Progress, batch: int, repairs: Repairs) -> None:
        self._source = source
        self._location = target.location
        self._connection = target.connection
        self._target_epoch = target.epoch
        self._progress = progress
        self._batch = batch
        self._repairs = repairs

    def run(self) -> int:
        self._take_over_epoch()
        self._copy_revocations()
        total = self._source.count()
        held = self._connection.scalar(select(func.count()).select_from(messages)) or 0
        self._progress(held, total)
        copied = 0
        for channel in self._source.channels():
            for count in self._copy(channel):
                copied += count
                self._progress(held + copied, total)
        return copied

    def _copy_revocations(self) -> None:
        # These are copied first, so that nobody gets access again if a copy is interrupted and is served all the same.
        rows = self._source.revocations()
        with _transaction(self._connection):
            self._connection.execute(delete(revocations))
            if rows:
                self._connection.execute(insert(revocations), rows)
            self._connection.execute(update(log_info).values(revocations_version=log_info.c.revocations_version + 1))

    def _take_over_epoch(self) -> None:
        if self._target_epoch == self._source.epoch:
            return
        if self._connection.scalar(select(func.count()).select_from(channels)):
            raise StartupError(f"{self._location} already holds another log; the target must be empty")
        self._connection.execute(update(log_info).values(epoch=self._source.epoch))

    def _copy(self, channel: SourceChannel) -> Iterator[int]:
        channel_id = self._repairs.channel_id(channel.channel_id)
        head = self._connection.scalar(select(channels.c.last_sequence).where(channels.c.channel_id == channel_id)) or 0
        self._require_same(channel, channel_id, head)
        rows = (self._repairs.row(row, channel_id) for row in self._source.rows(channel.channel_id, head))
        first = next(rows, None)
        oldest = channel.last_sequence + 1 if first is None else first["sequence"]
        if head and oldest > head + 1:
            # Retention has removed at the source what follows the newest message of the target. Since a channel must
            # have no gap, all of its messages are copied again.
            with _transaction(self._connection):
                self._connection.execute(delete(messages).where(messages.c.channel_id == channel_id))
        whole = chain(() if first is None else (first,), rows)
        while chunk := list(islice(whole, self._batch)):
            with _transaction(self._connection):
                self._connection.execute(insert(messages), chunk)
                self._set_head(channel_id, chunk[-1]["sequence"])
            yield len(chunk)
        self._copy_changes(channel, channel_id)
        with _transaction(self._connection):  # the newest messages may have been removed at the source
            self._set_head(channel_id, channel.last_sequence)
            self._connection.execute(delete(totals).where(totals.c.channel_id == channel_id))
            if counted := self._repairs.totals(channel.totals, channel_id):
                self._connection.execute(insert(totals), counted)

    def _copy_changes(self, channel: SourceChannel, channel_id: str) -> None:
        """Copies what was done to messages since the last run, and those messages as they are now.

        A change may affect what was copied before: an erasure removes the text of earlier changes. So all changes of
        every message that was changed are written again. How far the target has come is stored last, so a run that is
        interrupted does it again.
        """
        here = channels.c.channel_id == channel_id
        known = self._connection.scalar(select(channels.c.last_change).where(here)) or 0
        self._take_names(channel, channel_id, known)
        rows = self._source.changes(channel.channel_id, known)
        while chunk := list(islice(rows, self._batch)):
            with _transaction(self._connection):
                for sequence in dict.fromkeys(change["message_sequence"] for change in chunk):
                    self._copy_changed(channel, channel_id, sequence)
        with _transaction(self._connection):
            oldest = self._source.oldest_change(channel.channel_id)
            self._connection.execute(
                delete(changes).where(changes.c.channel_id == channel_id, changes.c.sequence < oldest)
            )
            self._connection.execute(delete(growing).where(growing.c.channel_id == channel_id))
            if grow := [self._as_touched(row) for row in _moved(channel.growing, channel_id)]:
                self._connection.execute(insert(growing), grow)
            self._connection.execute(update(channels).where(here).values(last_change=channel.last_change))

    def _as_touched(self, row: Row) -> Row:
        """A row of `growing` as its newest piece has left it. SQLite does not write the row with each piece, and
        PostgreSQL takes it at its word."""
        newest = of_message(
            (changes.c.revision, changes.c.timestamp), row["channel_id"], row["sequence"], row["revision"]
        )
        for revision, timestamp in self._connection.execute(newest):
            row = {
                **row,
                "revision": max(row["revision"], revision),
                "touched_at": max(row["touched_at"], timestamp),
            }
        return row

    def _take_names(self, channel: SourceChannel, channel_id: str, known: int) -> None:
        """Removes the names of authors from changes that were copied before, if they were removed at the source."""
        bare = self._source.nameless_changes(channel.channel_id, known)
        named = select(changes.c.sequence).where(changes.c.channel_id == channel_id, changes.c.author != ERASED_AUTHOR)
        while chunk := list(islice(bare, self._batch)):
            there = changes.c.channel_id == channel_id, changes.c.sequence.in_(chunk)
            if self._connection.scalar(named.where(*there).limit(1)) is None:
                continue
            with _transaction(self._connection):
                self._connection.execute(update(changes).where(*there).values(author=ERASED_AUTHOR))

    def _copy_changed(self, channel: SourceChannel, channel_id: str, sequence: int) -> None:
        row, made = self._source.changed(channel.channel_id, sequence)
        known = of_message((changes.c.sequence,), channel_id, sequence, 0).correlate(None)
        there = changes.c.channel_id == channel_id, changes.c.sequence.in_(known)
        self._connection.execute(delete(changes).where(*there))
        if made:
            self._connection.execute(insert(changes), _moved(made, channel_id))
        if row is not None:
            here = messages.c.channel_id == channel_id, messages.c.sequence == sequence
            self._connection.execute(delete(messages).where(*here))
            self._connection.execute(insert(messages), Repairs().row(row, channel_id))

    def _require_same(self, channel: SourceChannel, channel_id: str, head: int) -> None:
        """Refuses to go on after a message that the source does not have, or has with other content."""
        went_on = head > channel.last_sequence
        if head and not went_on:
            here = select(messages).where(messages.c.channel_id == channel_id, messages.c.sequence == head)
            found = self._connection.execute(here).mappings().first()
            source_row = next(self._source.rows(channel.channel_id, head - 1), None)
            if found is not None and source_row is not None and source_row["sequence"] == head:
                # A message that was edited or erased at the source since the last run is still the same message.
                compared = _COMPARED if found["revision"] == source_row.get("revision", 0) else _FIXED
                same = Repairs().row(source_row, channel_id)  # It was told of when it was copied.
                went_on = any(found[name] != same[name] for name in compared)
        if went_on:
            raise StartupError(
                f"{self._location} has gone its own way: its channel {channel.channel_id!r} is not the source's"
            )

    def _set_head(self, channel_id: str, sequence: int) -> None:
        changed = self._connection.execute(
            update(channels).where(channels.c.channel_id == channel_id).values(last_sequence=sequence)
        )
        if not changed.rowcount:
            self._connection.execute(insert(channels).values(channel_id=channel_id, last_sequence=sequence))


def _moved(rows: list[Row], channel_id: str) -> list[Row]:
    """The rows in the channel as it is called at the target."""
    return [{**row, "channel_id": channel_id} for row in rows]


class _transaction:
    """A transaction on a connection in autocommit mode."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        self._connection.exec_driver_sql("BEGIN")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._connection.exec_driver_sql("COMMIT" if kind is None else "ROLLBACK")
