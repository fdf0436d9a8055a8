"""What the log is asked, as statements that both databases understand.

Each method runs in a reader's thread, makes its rows into messages there, and sees one committed state per statement.
Every statement over messages walks the primary key (or, over all channels, the index by time) and reads a bounded
stretch of it; a test holds the query plans to that.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Integer, Select, bindparam, func, select, tuple_

from changes import apply_change, changes_epoch
from message_log.change_rows import COLUMNS as CHANGE_COLUMNS
from message_log.change_rows import as_changes, of_message
from message_log.dialect import Dialect
from message_log.posted import posted_digest, same_post
from message_log.protocol import LOOK_AT_MAX, TOTALS_NAMES_MAX, HistoryPage, StoredPage
from message_log.tables import changes, channels, log_info, messages, totals
from message_rows import COMPLETE, NOTHING, ROW, SEQUENCE, MessageRows, Row, message_of, row_of, to_microseconds
from messages import ChannelHead, Draft, Message, MessageFilter, Totals

_BEYOND = 2**63 - 1
_FETCH_ROWS = 64

_COLUMNS = tuple(messages.c[name] for name in ROW)
_IN_CHANNEL = messages.c.channel_id == bindparam("channel_id")
_IN_RANGE = _IN_CHANNEL & (messages.c.sequence > bindparam("after")) & (messages.c.sequence < bindparam("before"))
_SEQUENCE = messages.c.sequence


def _end(order: ColumnElement[int]) -> Any:
    """The first sequence of a range in this order. Two of these are two look-ups in the key, while SQLite would read
    the whole range for min() and max() together."""
    return select(_SEQUENCE).where(_IN_RANGE).order_by(order).limit(1).scalar_subquery()


_LAST_SEQUENCE = select(channels.c.last_sequence).where(channels.c.channel_id == bindparam("channel_id"))
_MESSAGE = select(*_COLUMNS).where(_IN_CHANNEL, messages.c.sequence == bindparam("sequence"))
_SINCE = of_message(
    CHANGE_COLUMNS, bindparam("channel_id"), bindparam("sequence"), bindparam("revision", type_=Integer)
).order_by(changes.c.revision)
_FIRST_WITH_KEY = select(*_COLUMNS, messages.c.posted_digest).where(
    _IN_CHANNEL, messages.c.author == bindparam("author"), messages.c.idempotency_key == bindparam("idempotency_key")
)
_FORWARDS = select(*_COLUMNS).where(_IN_RANGE).order_by(_SEQUENCE).limit(bindparam("limit"))
_BACKWARDS = select(*_COLUMNS).where(_IN_RANGE).order_by(_SEQUENCE.desc()).limit(bindparam("limit"))
_RANGE_ENDS = select(_end(_SEQUENCE.asc()), _end(_SEQUENCE.desc()))
_OLDEST_SEQUENCE = select(
    func.coalesce(
        select(_SEQUENCE).where(_IN_CHANNEL).order_by(_SEQUENCE).limit(1).scalar_subquery(),
        _LAST_SEQUENCE.scalar_subquery() + 1,
        1,
    )
)
_OLDEST_OF_ALL = (
    select(*_COLUMNS)
    .order_by(messages.c.timestamp, messages.c.channel_id, messages.c.sequence)
    .limit(bindparam("limit"))
)
_CHANNELS = (
    select(channels.c.channel_id, channels.c.last_sequence)
    .where(channels.c.channel_id > bindparam("after"))
    .order_by(channels.c.channel_id)
    .limit(bindparam("limit"))
)
_STRETCHES = (
    select(
        channels.c.channel_id,
        channels.c.last_sequence,
        select(_SEQUENCE)
        .where(messages.c.channel_id == channels.c.channel_id)
        .order_by(_SEQUENCE)
        .limit(1)
        .scalar_subquery(),
    )
    .where(channels.c.channel_id > bindparam("after"))
    .order_by(channels.c.channel_id)
    .limit(bindparam("limit"))
)
_AUTHORS = (
    select(messages.c.channel_id, _SEQUENCE, messages.c.author)
    .where(tuple_(messages.c.channel_id, _SEQUENCE) > tuple_(bindparam("channel_id"), bindparam("sequence")))
    .order_by(messages.c.channel_id, _SEQUENCE)
    .limit(bindparam("limit"))
)
_TIMES = select(_SEQUENCE, messages.c.timestamp).where(_IN_RANGE).order_by(_SEQUENCE).limit(bindparam("limit"))
_TOTALS = select(func.sum(totals.c.messages), func.sum(totals.c.tokens))


def _by(name: Column[str]) -> Any:
    """Counts of messages by a name, the greatest first."""
    count = func.sum(totals.c.messages)
    return select(name, count).where(name != "").group_by(name).order_by(count.desc(), name).limit(TOTALS_NAMES_MAX)


_BY_PROVIDER, _BY_LANE = _by(totals.c.provider), _by(totals.c.lane)


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a channel holds: sequences from `oldest_sequence` to `last_sequence`; nothing if the first is greater."""

    channel_id: str
    oldest_sequence: int
    last_sequence: int


class Queries:
    """The log's questions for one database and epoch."""

    def __init__(self, dialect: Dialect, epoch: str) -> None:
        self._dialect = dialect
        self._epoch = epoch
        self._read = self._bounded_read() if dialect.bounds_bytes else _FORWARDS
        self._read_many = dialect.read_many(_COLUMNS, messages.c.content)

    def last_sequence(self, connection: Connection, channel_id: str) -> int:
        for (sequence,) in self._dialect.rows(connection, _LAST_SEQUENCE, {"channel_id": channel_id}):
            return int(sequence)
        return 0

    def last_sequences(self, connection: Connection, channel_ids: Collection[str]) -> dict[str, int]:
        wanted = self._dialect.is_any(channels.c.channel_id, channel_ids)
        found = connection.execute(select(channels.c.channel_id, channels.c.last_sequence).where(wanted))
        return dict(found.all())

    def read(self, connection: Connection, channel_id: str, after: int, limit: int, max_bytes: int) -> list[Message]:
        found: list[Message] = []
        size = 0
        parameters = {"channel_id": channel_id, "after": after, "before": _BEYOND, "limit": limit}
        if self._dialect.bounds_bytes:
            parameters["max_bytes"] = max_bytes
        with connection.execute(self._read, parameters) as result:
            while rows := result.fetchmany(_FETCH_ROWS):
                for message in self._messages(connection, rows):
                    found.append(message)
                    size += message.text_bytes
                    if size > max_bytes:
                        return found
        return found

    def read_many(
        self, connection: Connection, positions: Mapping[str, int], limit: int, max_bytes: int
    ) -> dict[str, list[Message]]:
        found: dict[str, list[Message]] = {}
        if self._read_many is None:
            for channel_id, after in positions.items():
                if run := self.read(connection, channel_id, after, limit, max_bytes):
                    found[channel_id] = run
            return found
        parameters = (list(positions), list(positions.values()), limit, max_bytes)
        for message in self._messages(connection, connection.exec_driver_sql(self._read_many, parameters)):
            found.setdefault(message.channel_id, []).append(message)
        return found

    def history(
        self,
        connection: Connection,
        channel_id: str,
        after: int,
        before: int | None,
        limit: int,
        backwards: bool,
        filter: MessageFilter | None,
        look_at_max: int = LOOK_AT_MAX,
    ) -> HistoryPage:
        statement = _BACKWARDS if backwards else _FORWARDS
        range_ = {"channel_id": channel_id, "after": after, "before": _BEYOND if before is None else before}
        if filter is not None and filter != MessageFilter():
            return self._filtered(connection, statement, range_, limit, backwards, filter, look_at_max)
        found = list(self._dialect.rows(connection, statement, {**range_, "limit": limit + 1}))
        exhausted = len(found) <= limit
        del found[limit:]
        stopped_at = found[-1][SEQUENCE] if found else None
        return HistoryPage(self._as_rows(connection, found, backwards), stopped_at, exhausted)

    def page(
        self,
        connection: Connection,
        channel_id: str,
        after: int | None,
        before: int | None,
        limit: int,
        backwards: bool,
        filter: MessageFilter | None,
        look_at_max: int,
    ) -> StoredPage:
        head = self.last_sequence(connection, channel_id)
        found = HistoryPage(NOTHING, None, False)
        if limit:
            found = self.history(connection, channel_id, after or 0, before, limit, backwards, filter, look_at_max)
        if after is None and before is None and limit:
            return StoredPage(head, found)
        return StoredPage(head, found, self.oldest_sequence(connection, channel_id))

    def oldest_sequence(self, connection: Connection, channel_id: str) -> int:
        [(sequence,)] = self._dialect.rows(connection, _OLDEST_SEQUENCE, {"channel_id": channel_id})
        return int(sequence)

    def oldest_of_all(
        self, connection: Connection, limit: int, channel_ids: Collection[str] | None, after: Message | None = None
    ) -> list[Message]:
        statement = _OLDEST_OF_ALL
        if channel_ids is not None:
            statement = statement.where(self._dialect.is_any(messages.c.channel_id, channel_ids))
        if after is not None:
            place = tuple_(messages.c.timestamp, messages.c.channel_id, messages.c.sequence)
            statement = statement.where(
                place > tuple_(to_microseconds(after.timestamp), after.channel_id, after.sequence)
            )
        return list(self._messages(connection, connection.execute(statement, {"limit": limit})))

    def message(self, connection: Connection, channel_id: str, sequence: int) -> Message | None:
        if not 0 < sequence <= _BEYOND:
            return None
        rows = self._dialect.rows(connection, _MESSAGE, {"channel_id": channel_id, "sequence": sequence})
        return next(self._messages(connection, rows), None)

    def repeated(self, connection: Connection, draft: Draft) -> tuple[Message, bool] | None:
        """The message that a draft's idempotency key names, and whether the draft has the content of that post."""
        named = {"channel_id": draft.channel_id, "author": draft.author, "idempotency_key": draft.idempotency_key}
        row = connection.execute(_FIRST_WITH_KEY, named).first()
        if row is None:
            return None
        *columns, digest = row
        if not row.complete:
            digest = digest or posted_digest(message_of(tuple(columns), self._epoch))
        message = next(self._messages(connection, [tuple(columns)]))
        return message, same_post(draft, message, digest)

    def channels(self, connection: Connection, after: str | None, limit: int) -> list[ChannelHead]:
        rows = connection.execute(_CHANNELS, {"after": after or "", "limit": limit})
        return [ChannelHead(channel_id, sequence) for channel_id, sequence in rows]

    def stretches(self, connection: Connection, after: str, limit: int) -> list[Stretch]:
        """What the channels hold whose ids follow `after`, by code point order, at most `limit` channels."""
        rows = connection.execute(_STRETCHES, {"after": after, "limit": limit})
        return [Stretch(channel_id, last + 1 if oldest is None else oldest, last) for channel_id, last, oldest in rows]

    def first_since(self, connection: Connection, stretch: Stretch, moment: int, limit: int) -> int:
        """The first sequence of a stretch, among its oldest `limit`, stamped at `moment` (microseconds) or later. If
        there is none, the sequence that follows those that were looked at."""
        parameters = {"channel_id": stretch.channel_id, "after": stretch.oldest_sequence - 1, "before": _BEYOND}
        beyond = stretch.oldest_sequence
        for sequence, timestamp in connection.execute(_TIMES, {**parameters, "limit": limit}):
            if timestamp >= moment:
                return int(sequence)
            beyond = sequence + 1
        return int(beyond)

    def names_taken(self, connection: Connection) -> int:
        return connection.scalar(select(log_info.c.names_taken)) or 0

    def posted_by(
        self, connection: Connection, author: str, after: tuple[str, int] | None, limit: int
    ) -> tuple[list[tuple[str, int]], tuple[str, int] | None]:
        channel_id, sequence = after or ("", 0)
        rows = connection.execute(_AUTHORS, {"channel_id": channel_id, "sequence": sequence, "limit": limit}).all()
        found = [(row.channel_id, row.sequence) for row in rows if row.author == author]
        return found, (rows[-1].channel_id, rows[-1].sequence) if rows else None

    def totals(self, connection: Connection, channel_ids: Collection[str] | None) -> Totals:
        def of_those(statement: Any) -> Any:
            if channel_ids is None:
                return statement
            return statement.where(self._dialect.is_any(totals.c.channel_id, channel_ids))

        posted, tokens = connection.execute(of_those(_TOTALS)).one()
        by_provider, by_lane = (
            {name: int(count) for name, count in connection.execute(of_those(statement))}
            for statement in (_BY_PROVIDER, _BY_LANE)
        )
        return Totals(
            int(posted or 0), int(tokens or 0), dict(sorted(by_provider.items())), dict(sorted(by_lane.items()))
        )

    def _filtered(
        self,
        connection: Connection,
        statement: Select[Any],
        range_: dict[str, Any],
        limit: int,
        backwards: bool,
        filter: MessageFilter,
        look_at_max: int,
    ) -> HistoryPage:
        first, last = connection.execute(_RANGE_ENDS, range_).one()
        if first is None:
            return HistoryPage(NOTHING, None, True)
        if limit < 1:
            return HistoryPage(NOTHING, None, False)
        # What is held of a channel has no gaps: a stretch of sequences is a stretch of messages.
        if backwards:
            stop = max(first, last - look_at_max + 1)
            stretch = {"channel_id": range_["channel_id"], "after": stop - 1, "before": last + 1}
        else:
            stop = min(last, first + look_at_max - 1)
            stretch = {"channel_id": range_["channel_id"], "after": first - 1, "before": stop + 1}
        for column, wanted in (
            (messages.c.author, filter.authors),
            (messages.c.lane, filter.lanes),
            (messages.c.provider, filter.providers),
        ):
            if wanted is not None:
                statement = statement.where(column.in_(sorted(wanted)))
        found: list[Row] = [tuple(row) for row in connection.execute(statement, {**stretch, "limit": limit})]
        stopped_at = found[-1][SEQUENCE] if len(found) == limit else stop
        exhausted = stopped_at <= first if backwards else stopped_at >= last
        looked_at = last - stopped_at + 1 if backwards else stopped_at - first + 1
        return HistoryPage(self._as_rows(connection, found, backwards), stopped_at, exhausted, looked_at)

    def _bounded_read(self) -> Select[Any]:
        """`_FORWARDS`, ended by the database after the message with which the contents exceed `max_bytes`."""
        size = self._dialect.octets(messages.c.content)
        before = (func.sum(size).over(order_by=_SEQUENCE) - size).label("bytes_before")
        stretch = _FORWARDS.add_columns(before).subquery()
        return (
            select(*(stretch.c[column.name] for column in _COLUMNS))
            .where(stretch.c.bytes_before <= bindparam("max_bytes"))
            .order_by(stretch.c.sequence)
        )

    def _as_rows(self, connection: Connection, rows: list[Row], backwards: bool) -> MessageRows:
        """Rows in the order in which they were read, as messages in ascending sequence."""
        if backwards:
            rows.reverse()
        for place, row in enumerate(rows):
            if not row[COMPLETE]:
                rows[place] = row_of(self._grown(connection, message_of(row, self._epoch)))
        return MessageRows.of_rows(rows, self._epoch)

    def _messages(self, connection: Connection, rows: Iterable[Row]) -> Iterator[Message]:
        for row in rows:
            message = message_of(row, self._epoch)
            yield message if message.complete else self._grown(connection, message)

    def _grown(self, connection: Connection, message: Message) -> Message:
        """A message that grows, as its row says it, made what it is by the changes that came since.

        Whatever is committed between the two statements, what comes of it is the message at one moment: changes are
        applied in order, from the row's revision on.
        """
        since = {"channel_id": message.channel_id, "sequence": message.sequence, "revision": message.revision}
        for change in as_changes(connection.execute(_SINCE, since), changes_epoch(self._epoch)):
            message = apply_change(message, change)
        return message
