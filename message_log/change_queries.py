"""The queries on the log of changes. See `queries`: the same rules hold for these statements."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, exists, func, literal_column, select

from changes import MessageChange, changes_epoch
from message_log.change_rows import COLUMNS, as_changes, of_message
from message_log.dialect import Dialect
from message_log.tables import changes, channels, growing, messages

_FETCH_ROWS = 64
_IN_CHANNEL = changes.c.channel_id == bindparam("channel_id")
_FORWARDS = (
    select(*COLUMNS)
    .where(_IN_CHANNEL, changes.c.sequence > bindparam("after"))
    .order_by(changes.c.sequence)
    .limit(bindparam("limit"))
)
_OLDEST = (
    select(changes.c.sequence - changes.c.run + 1).where(_IN_CHANNEL).order_by(changes.c.sequence).limit(1)
).scalar_subquery()
# Every row is looked at: there is one for each message that grows just now. One whose message is gone may be left where
# a file was changed by hand. It must not take the place of others.
_GROWING = select(growing.c.channel_id, growing.c.sequence, growing.c.revision).where(
    exists().where(messages.c.channel_id == growing.c.channel_id, messages.c.sequence == growing.c.sequence),
)


def last_change(dialect: Dialect) -> ColumnElement[int]:
    """The sequence of the newest change of a row of `channels`; 0 if there never was one."""
    if dialect.counts_changes:
        return channels.c.last_change
    newest = (
        select(changes.c.sequence)
        .where(changes.c.channel_id == channels.c.channel_id)
        .order_by(changes.c.sequence.desc())
        .limit(1)
        .scalar_subquery()
    )
    return func.max(channels.c.last_change, func.coalesce(newest, 0))


class ChangeQueries:
    """The queries for one database and epoch (that of the messages)."""

    def __init__(self, dialect: Dialect, epoch: str) -> None:
        self._dialect = dialect
        self._epoch = changes_epoch(epoch)
        self._read = self._bounded_read() if dialect.bounds_bytes else _FORWARDS
        self._read_many = dialect.read_many(COLUMNS, changes.c.text)
        last = last_change(dialect)
        self._last_sequence = select(last).where(channels.c.channel_id == bindparam("channel_id"))
        self._last_sequences = select(channels.c.channel_id, last)
        self._oldest_sequence = select(func.coalesce(_OLDEST, self._last_sequence.scalar_subquery() + 1, 1))

    def last_sequence(self, connection: Connection, channel_id: str) -> int:
        return connection.scalar(self._last_sequence, {"channel_id": channel_id}) or 0

    def last_sequences(self, connection: Connection, channel_ids: Collection[str]) -> dict[str, int]:
        wanted = self._dialect.is_any(channels.c.channel_id, channel_ids)
        found = connection.execute(self._last_sequences.where(wanted))
        return {channel_id: sequence for channel_id, sequence in found if sequence}

    def read(
        self, connection: Connection, channel_id: str, after: int, limit: int, max_bytes: int
    ) -> list[MessageChange]:
        found = _Stretch(after, limit, max_bytes)
        parameters = {"channel_id": channel_id, "after": after, "limit": limit}
        if self._dialect.bounds_bytes:
            parameters["max_bytes"] = max_bytes
        with connection.execute(self._read, parameters) as result:
            while not found.full and (rows := result.fetchmany(_FETCH_ROWS)):
                for change in as_changes(rows, self._epoch):
                    found.add(change)
        return found.changes

    def read_many(
        self, connection: Connection, positions: Mapping[str, int], limit: int, max_bytes: int
    ) -> dict[str, list[MessageChange]]:
        if self._read_many is None:
            read = {
                channel_id: self.read(connection, channel_id, after, limit, max_bytes)
                for channel_id, after in positions.items()
            }
            return {channel_id: run for channel_id, run in read.items() if run}
        found = {channel_id: _Stretch(after, limit, max_bytes) for channel_id, after in positions.items()}
        parameters = (list(positions), list(positions.values()), limit, max_bytes)
        for change in as_changes(connection.exec_driver_sql(self._read_many, parameters), self._epoch):
            found[change.channel_id].add(change)
        return {channel_id: stretch.changes for channel_id, stretch in found.items() if stretch.changes}

    def oldest_sequence(self, connection: Connection, channel_id: str) -> int:
        return int(connection.scalar(self._oldest_sequence, {"channel_id": channel_id}))

    def growing_since(self, connection: Connection, moment: int, now: int, limit: int) -> list[tuple[str, int, int]]:
        """`moment` and `now` are by this process's clock, in microseconds."""
        if self._dialect.clock is not None:
            # Every piece is noted there. What the changes say is the time of the nodes, whose clocks may differ.
            before: ColumnElement[int] = literal_column(self._dialect.clock) - (now - moment)
            rows = connection.execute(_GROWING.where(growing.c.touched_at < before).limit(limit)).all()
            return [(channel_id, sequence, revision) for channel_id, sequence, revision in rows]
        left = []
        for channel_id, sequence, noted in connection.execute(_GROWING.where(growing.c.touched_at < moment)).all():
            since = of_message((changes.c.revision, changes.c.timestamp), channel_id, sequence, noted)
            newest = max(connection.execute(since).all(), default=(noted, moment - 1))
            if newest[1] < moment:
                left.append((channel_id, sequence, newest[0]))
                if len(left) == limit:
                    break
        return left

    def _bounded_read(self) -> Select[Any]:
        """`_FORWARDS`, ended by the database after the change with which the texts exceed `max_bytes`."""
        size = func.coalesce(self._dialect.octets(changes.c.text), 0)
        before = (func.sum(size).over(order_by=changes.c.sequence) - size).label("bytes_before")
        stretch = _FORWARDS.add_columns(before).subquery()
        return (
            select(*(stretch.c[column.name] for column in COLUMNS))
            .where(stretch.c.bytes_before <= bindparam("max_bytes"))
            .order_by(stretch.c.sequence)
        )


class _Stretch:
    """Changes after a position, at most `limit`, up to the one with which their texts exceed `max_bytes`. A row may
    hold a few more at either end."""

    def __init__(self, after: int, limit: int, max_bytes: int) -> None:
        self.changes: list[MessageChange] = []
        self._after = after
        self._limit = limit
        self._max_bytes = max_bytes
        self._bytes = 0

    @property
    def full(self) -> bool:
        return len(self.changes) >= self._limit or self._bytes > self._max_bytes

    def add(self, change: MessageChange) -> None:
        if change.sequence > self._after and not self.full:
            self.changes.append(change)
            self._bytes += change.text_bytes
