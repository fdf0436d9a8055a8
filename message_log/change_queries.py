"""What the log of changes is asked. See `queries`: the same rules hold for these statements."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, Select, bindparam, exists, func, select

from changes import MessageChange, MessageChangeKind, changes_epoch
from message_log.batch import from_microseconds
from message_log.dialect import Dialect
from message_log.tables import changes, channels, growing, messages
from messages import text_size_bytes

KINDS = (
    MessageChangeKind.APPENDED,
    MessageChangeKind.COMPLETED,
    MessageChangeKind.EDITED,
    MessageChangeKind.ERASED,
)
"""How a kind is stored: by its place here."""

_BEYOND = 2**63 - 1
_FETCH_ROWS = 64
COLUMNS = (
    changes.c.channel_id,
    changes.c.sequence,
    changes.c.message_sequence,
    changes.c.kind,
    changes.c.revision,
    changes.c.text,
    changes.c.author,
    changes.c.timestamp,
    changes.c.token_count,
    changes.c.edition,
)
_IN_CHANNEL = changes.c.channel_id == bindparam("channel_id")
_LAST_CHANGE = select(channels.c.last_change).where(channels.c.channel_id == bindparam("channel_id"))
_FORWARDS = (
    select(*COLUMNS)
    .where(_IN_CHANNEL, changes.c.sequence > bindparam("after"))
    .order_by(changes.c.sequence)
    .limit(bindparam("limit"))
)
_OLDEST_SEQUENCE = select(
    func.coalesce(
        select(changes.c.sequence).where(_IN_CHANNEL).order_by(changes.c.sequence).limit(1).scalar_subquery(),
        _LAST_CHANGE.scalar_subquery() + 1,
        1,
    )
)
# Every row is looked at: there is one for each message that grows just now. One whose message is gone may be left where
# retention was interrupted, or a piece came while it was at work. It must not take the place of others.
_GROWING_SINCE = (
    select(growing.c.channel_id, growing.c.sequence, growing.c.revision)
    .where(
        growing.c.touched_at < bindparam("moment"),
        exists().where(messages.c.channel_id == growing.c.channel_id, messages.c.sequence == growing.c.sequence),
    )
    .limit(bindparam("limit"))
)


def as_changes(rows: Iterable[Any], epoch: str) -> Iterator[MessageChange]:
    """Rows of `COLUMNS` as changes; `epoch` is the changes' own."""
    for channel_id, sequence, of, kind_number, revision, text, author, timestamp, tokens, edition in rows:
        kind = KINDS[kind_number]
        yield MessageChange(
            channel_id,
            sequence,
            of,
            kind,
            revision,
            text if kind is MessageChangeKind.APPENDED else None,
            text if kind is MessageChangeKind.EDITED else None,
            author,
            from_microseconds(timestamp),
            epoch,
            tokens,
            edition,
            text if kind is MessageChangeKind.ERASED else None,
        )


class ChangeQueries:
    """The questions for one database and epoch (that of the messages)."""

    def __init__(self, dialect: Dialect, epoch: str) -> None:
        self._dialect = dialect
        self._epoch = changes_epoch(epoch)
        self._read = self._bounded_read() if dialect.bounds_bytes else _FORWARDS
        self._read_many = dialect.read_many(COLUMNS, changes.c.text)

    def last_sequence(self, connection: Connection, channel_id: str) -> int:
        return connection.scalar(_LAST_CHANGE, {"channel_id": channel_id}) or 0

    def last_sequences(self, connection: Connection, channel_ids: Collection[str]) -> dict[str, int]:
        wanted = self._dialect.is_any(channels.c.channel_id, channel_ids)
        found = connection.execute(
            select(channels.c.channel_id, channels.c.last_change).where(wanted, channels.c.last_change > 0)
        )
        return dict(found.all())

    def read(
        self, connection: Connection, channel_id: str, after: int, limit: int, max_bytes: int
    ) -> list[MessageChange]:
        found: list[MessageChange] = []
        size = 0
        parameters = {"channel_id": channel_id, "after": after, "limit": limit}
        if self._dialect.bounds_bytes:
            parameters["max_bytes"] = max_bytes
        with connection.execute(self._read, parameters) as result:
            while rows := result.fetchmany(_FETCH_ROWS):
                for row, change in zip(rows, as_changes(rows, self._epoch), strict=True):
                    found.append(change)
                    size += text_size_bytes(row.text or "")
                    if size > max_bytes:
                        return found
        return found

    def read_many(
        self, connection: Connection, positions: Mapping[str, int], limit: int, max_bytes: int
    ) -> dict[str, list[MessageChange]]:
        found: dict[str, list[MessageChange]] = {}
        if self._read_many is None:
            for channel_id, after in positions.items():
                if run := self.read(connection, channel_id, after, limit, max_bytes):
                    found[channel_id] = run
            return found
        parameters = (list(positions), list(positions.values()), limit, max_bytes)
        for change in as_changes(connection.exec_driver_sql(self._read_many, parameters), self._epoch):
            found.setdefault(change.channel_id, []).append(change)
        return found

    def oldest_sequence(self, connection: Connection, channel_id: str) -> int:
        return int(connection.scalar(_OLDEST_SEQUENCE, {"channel_id": channel_id}))

    def growing_since(self, connection: Connection, moment: int, limit: int) -> list[tuple[str, int, int]]:
        rows = connection.execute(_GROWING_SINCE, {"moment": moment, "limit": limit})
        return [(channel_id, sequence, revision) for channel_id, sequence, revision in rows]

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
