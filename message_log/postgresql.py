"""The log in PostgreSQL: any number of servers share it.

**Order.** A transaction locks the counter row of each of its channels, in the order of their ids, and keeps the locks
until it ends. So only one transaction at a time gives out sequences of a channel, commit order is sequence order, and
two servers never wait for each other in a circle (a deadlock).

**Round trips.** A batch of plain posts takes one: a single statement, and its end commits it (see `plain_posts`). Any
other batch takes two. The first reads what must be known: the counters, and the messages that are held under the same
idempotency keys. The second sends everything that is written, and COMMIT. Both are sent as pipelines. The keys are
looked up by a statement of their own, after the one that locks: under READ COMMITTED only a later statement sees what
the previous holder of the lock has committed.

**Unknown outcomes.** If a connection is lost after something that commits was sent, the outcome is unknown. Each
process has one row in `writers`, and each of its transactions writes its own number there. So that row tells whether
the transaction was committed (see `writer_row`). If it was, its sequences are known already, or are in the row. If not,
it never will be, and the batch is tried again. (A new row for each transaction would work too, but then thousands of
rows a second would have to be removed.)

**Time limits.** Every wait ends: for a lock, a statement, a connection, a peer that is gone (keepalives and
`tcp_user_timeout`). And when a server stalls in the middle of a transaction, PostgreSQL ends it, so that it cannot
block a channel. On a direct connection these limits are set for the session. Behind a pooler, a session may serve
another client next. Then each transaction that writes sets them for itself, no statement is prepared, and hints need an
address of their own, since LISTEN belongs to a session.

**Fail-over.** If the URL names several hosts, connections go to the one that accepts writes. When a host stops
accepting them without closing its connections, these count as lost.
"""

import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

import orjson
import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Column, ColumnElement, Connection, Engine, Select, Text, bindparam, create_engine, func
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from changes import ChangeDraft
from errors import StartupError
from message_log.batch import Batch, Key, Named, keys_of, merged, plan, split
from message_log.changing import STORED_COLUMNS, Changing
from message_log.dialect import InDoubt
from message_log.hints import Hints
from message_log.plain_posts import PlainPosts, all_plain
from message_log.postgresql_address import PostgresqlAddress
from message_log.postgresql_session import (
    BEGIN,
    OF_SESSION,
    OF_TRANSACTION,
    READ_ONLY,
    Driver,
    ended_session,
    is_pooled,
)
from message_log.protocol import LogListener
from message_log.writer_row import NOW, WriterRow
from message_rows import to_microseconds
from messages import Draft

logger = logging.getLogger(__name__)

_MIGRATION_LOCK = 0x7261_7163_6F6F_6E00  # "raqcoon", as a number: advisory locks have no names
_FORGET_WRITERS = """
DELETE FROM writers WHERE seen_at < (extract(epoch FROM clock_timestamp() - interval '1 day') * 1000000)::bigint
"""
# A physical copy has the same identity, and so has a standby that takes over.
_IDENTITY = "SELECT d.oid, 'channels'::regclass::oid FROM pg_database AS d WHERE d.datname = current_database()"
_SYSTEM = "SELECT system_identifier FROM pg_control_system()"
_KNOWN_CHANNELS = "SELECT channel_id FROM channels WHERE channel_id = ANY(%s::text[])"
_LOCK_AND_RAISE_HEADS = """
INSERT INTO channels (channel_id, last_sequence) SELECT * FROM unnest(%s::text[], %s::bigint[])
ON CONFLICT (channel_id) DO UPDATE SET last_sequence = channels.last_sequence + excluded.last_sequence
RETURNING channel_id, last_sequence
"""
# LATERAL with LIMIT makes the planner use one index look-up for each key, whatever size it expects the table to have.
_EARLIER = f"""
SELECT {STORED_COLUMNS}
FROM unnest(%s::text[], %s::text[], %s::text[]) AS k (channel_id, author, idempotency_key)
CROSS JOIN LATERAL (
    SELECT * FROM messages
    WHERE channel_id = k.channel_id AND author = k.author AND idempotency_key = k.idempotency_key LIMIT 1
) AS m
"""
_INSERT_MESSAGES = """
INSERT INTO messages
    (channel_id, sequence, timestamp, author, lane, provider, token_count, idempotency_key, content)
SELECT r->>0, (r->>1)::bigint, (r->>2)::bigint, r->>3, r->>4, r->>5, (r->>6)::integer, r->>7, r->>8
FROM json_array_elements(%s::json) AS r
"""
_LOWER_HEADS = """
UPDATE channels SET last_sequence = h.last_sequence
FROM unnest(%s::text[], %s::bigint[]) AS h (channel_id, last_sequence) WHERE channels.channel_id = h.channel_id
"""
_ADD_TOTALS = """
INSERT INTO totals (channel_id, provider, lane, messages, tokens)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::bigint[], %s::bigint[])
ON CONFLICT (channel_id, provider, lane) DO UPDATE
SET messages = totals.messages + excluded.messages, tokens = totals.tokens + excluded.tokens
"""


def _rows(name: str, columns: tuple[tuple[str, str], ...]) -> str:
    values = ", ".join(f"(r->>{place})::{kind} AS {column}" for place, (column, kind) in enumerate(columns))
    return f"(SELECT {values} FROM json_array_elements(%s::json) AS r) AS {name}"


class PostgresqlDialect:
    """A PostgreSQL database. `location` names the host and the database, never the user or the password."""

    exclusive = False
    bounds_bytes = True
    clock: str | None = NOW
    counts_changes = True

    def __init__(self, url: str, notify_url: str | None = None) -> None:
        address = PostgresqlAddress(url)
        self.location = address.location
        self._arguments = address.arguments
        self._notify_arguments = (
            PostgresqlAddress(notify_url, "RAQCOON_NOTIFY_URL").arguments if notify_url else self._arguments
        )
        self._pooled = False
        self._row = WriterRow()
        self._changing = Changing(_rows, counts_changes=self.counts_changes, clock=self.clock)

    def claim(self) -> None:
        """Does nothing: several servers may use the database."""

    def release(self) -> None:
        """Does nothing."""

    def engine(self, connections: int) -> Engine:
        return create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            isolation_level="AUTOCOMMIT",
            pool_size=connections,
            max_overflow=0,
            pool_reset_on_return=None,
            hide_parameters=True,  # failures are logged, but not who posted what
        )

    def begin_migration(self, connection: Connection) -> None:
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        if encoding != "UTF8":
            raise StartupError(f"the database {self.location} has the encoding {encoding}; it must be UTF8")
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql("SET LOCAL lock_timeout = '60s'")
        connection.exec_driver_sql("SET LOCAL statement_timeout = '60s'")
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")

    def tidy(self, connection: Connection) -> None:
        # A process that is alive but has not committed for a day inserts its row again with its next commit.
        connection.exec_driver_sql(_FORGET_WRITERS)

    def is_any(self, column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
        return column == func.any(bindparam(None, list(values), type_=ARRAY(Text)))

    def read_many(self, columns: Sequence[Column[Any]], text: Column[Any]) -> str:
        names = ", ".join(column.name for column in columns)
        table = text.table.description
        return f"""
            SELECT {names}
            FROM unnest(%s::text[], %s::bigint[]) AS k (in_channel, behind)
            CROSS JOIN LATERAL (
                SELECT *, sum(coalesce(octet_length({text.name}), 0)) OVER (ORDER BY sequence)
                    - coalesce(octet_length({text.name}), 0) AS bytes_before
                FROM (
                    SELECT * FROM {table} WHERE channel_id = k.in_channel AND sequence > k.behind
                    ORDER BY sequence LIMIT %s
                ) AS stretch
            ) AS m
            WHERE bytes_before <= %s ORDER BY channel_id, sequence
        """

    def rows(self, connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]) -> Iterable[Any]:
        return connection.execute(statement, parameters)

    def octets(self, column: ColumnElement[str]) -> ColumnElement[int]:
        return func.octet_length(column)

    def append(
        self, driver: DBAPIConnection, drafts: Sequence[Draft | ChangeDraft], timestamp: datetime, epoch: str
    ) -> Batch:
        connection = cast(Driver, driver)
        if all_plain(drafts):
            # In steps each post is told by itself that its channel is full, or which message its key names.
            with suppress(psycopg.errors.NotNullViolation, psycopg.errors.UniqueViolation):
                batch = self._append_plain(connection, cast(Sequence[Draft], drafts), timestamp, epoch)
                if batch is not None:
                    return batch
        return self._append_in_steps(connection, drafts, timestamp, epoch)

    def _append_plain(
        self, connection: Driver, posts: Sequence[Draft], timestamp: datetime, epoch: str
    ) -> Batch | None:
        plain = PlainPosts(posts, timestamp, epoch)
        commit = self._row.begin_commit()
        parameters = plain.parameters(self._row.writer_id, commit)
        try:
            if self._pooled:
                with connection.pipeline():
                    connection.execute(BEGIN)
                    connection.execute(OF_TRANSACTION)
                    raised = connection.execute(plain.statement, parameters)
                    connection.execute("COMMIT")
            else:
                raised = connection.execute(plain.statement, parameters)
            heads: dict[str, int] = dict(raised.fetchall())
            return plain.batch(heads) if heads else None
        except psycopg.Error as error:
            if ended_session(error):
                connection.close()
                if error.sqlstate != READ_ONLY:
                    raise InDoubt(commit, plain.batch) from error
            self._roll_back(connection)
            raise
        except BaseException:
            self._roll_back(connection)
            raise

    def _append_in_steps(
        self, connection: Driver, drafts: Sequence[Draft | ChangeDraft], timestamp: datetime, epoch: str
    ) -> Batch:
        posts, changes = split(drafts)

        def execute(statement: str, rows: str) -> psycopg.Cursor[tuple[Any, ...]]:
            return connection.execute(statement, (rows,))

        commit = self._row.begin_commit()
        batch: Batch | None = None
        remember = None
        try:
            with connection.pipeline():
                heads, earlier = self._begin(connection, posts, changes, epoch)
                planned = plan(posts, heads, earlier, timestamp=timestamp, epoch=epoch)
                rows = _message_rows(planned, to_microseconds(timestamp))
                if changes:
                    changed, remember = self._changing.run(execute, changes, timestamp, epoch)
                    batch = merged(drafts, planned, changed.outcomes, changed.changes)
                else:
                    batch = planned  # from now on PostgreSQL may have been told to commit
                self._write(connection, planned, rows, posts, heads)
                growing = [message for message in planned.messages if not message.complete]
                if growing:
                    self._changing.begin_growing(execute, growing, timestamp)
                connection.execute("COMMIT")
        except psycopg.Error as error:
            if ended_session(error):
                connection.close()
                if batch is not None:
                    committed = batch
                    raise InDoubt(commit, lambda heads: committed) from error
            self._roll_back(connection)
            raise
        except BaseException:
            self._roll_back(connection)
            raise
        if remember is not None:
            remember()
        return batch

    def _begin(
        self, connection: Driver, posts: Sequence[Draft], changes: Sequence[ChangeDraft], epoch: str
    ) -> tuple[dict[str, int], dict[Key, Named]]:
        counted = Counter(draft.channel_id for draft in posts)
        if changes:
            # Channels are never removed. So a channel that exists now can be locked, in its place of the order, by
            # adding 0 to its counter.
            wanted = list({draft.channel_id for draft in changes})
            for (channel_id,) in connection.execute(_KNOWN_CHANNELS, (wanted,)).fetchall():
                counted[channel_id] += 0
        counts = sorted(counted.items())
        connection.execute(BEGIN)
        if self._pooled:
            connection.execute(OF_TRANSACTION)
        self._row.sign(connection)
        if not counts:
            return {}, {}
        raised = connection.execute(_LOCK_AND_RAISE_HEADS, _columns(counts))
        keys = keys_of(posts)
        found = connection.execute(_EARLIER, _columns(keys)) if keys else None
        added = dict(counts)
        heads = {channel_id: sequence - added[channel_id] for channel_id, sequence in raised.fetchall()}
        if found is None:
            return heads, {}

        def execute(statement: str, rows: str) -> psycopg.Cursor[tuple[Any, ...]]:
            return connection.execute(statement, (rows,))

        return heads, self._changing.named(execute, found.fetchall(), epoch)

    def scrub(self, driver: DBAPIConnection) -> bool:
        """Does nothing: docs/changes.md tells operators what vacuum leaves behind."""
        return True

    @staticmethod
    def _write(connection: Driver, batch: Batch, rows: str, drafts: Sequence[Draft], heads: dict[str, int]) -> None:
        if batch.messages:
            connection.execute(_INSERT_MESSAGES, (rows,))
            connection.execute(_ADD_TOTALS, _columns([(*group, *added) for group, added in batch.totals.items()]))
        if len(batch.messages) < len(drafts):  # the counters were raised by repeats too
            connection.execute(_LOWER_HEADS, _columns(list({**heads, **batch.heads}.items())))

    @staticmethod
    def _roll_back(connection: Driver) -> None:
        with suppress(psycopg.Error):
            if connection.info.transaction_status != TransactionStatus.IDLE:
                connection.rollback()

    def settle(self, driver: DBAPIConnection, doubt: InDoubt) -> Batch | None:
        connection = cast(Driver, driver)
        connection.execute(BEGIN)
        connection.execute(OF_TRANSACTION)
        heads = self._row.settle(connection, doubt.commit)
        connection.execute("COMMIT")
        # The row was written by a transaction that is committed now. If commits wait for a standby, the earlier commit
        # that is in doubt has reached the standby too.
        return None if heads is None else doubt.batch(heads)

    def prove(self, driver: DBAPIConnection) -> None:
        # Before the first commit of this process it changes no row. A server that accepts no writes refuses it all the
        # same.
        self._row.be_seen(cast(Driver, driver))

    def damaged(self, error: object) -> bool:
        return isinstance(error, psycopg.errors.DataCorrupted | psycopg.errors.IndexCorrupted)

    def lost(self, driver: DBAPIConnection) -> bool:
        return bool(cast(Driver, driver).closed)

    def blames_post(self, error: Exception) -> bool:
        return isinstance(error, psycopg.DataError | psycopg.IntegrityError | ValueError | TypeError | OverflowError)

    def abort(self, driver: DBAPIConnection) -> None:
        with suppress(OSError, psycopg.Error):
            connection = socket.fromfd(cast(Driver, driver).fileno(), socket.AF_INET, socket.SOCK_STREAM)
            with connection:
                connection.shutdown(socket.SHUT_RDWR)

    def identify(self, connection: Connection) -> str:
        parts = [*connection.exec_driver_sql(_IDENTITY).one()]
        with suppress(DBAPIError):  # Only PostgreSQL itself surely has it; the oids tell nearly as much.
            parts.insert(0, connection.exec_driver_sql(_SYSTEM).scalar())
        return ".".join(map(str, parts))

    def hints(self, listener: LogListener, *, epoch: str, identity: str) -> Hints:
        if self._pooled and self._notify_arguments is self._arguments:
            logger.warning(
                "a pooler stands before %s: unless it keeps sessions, hints are lost, and what other nodes store waits "
                "for the sweep. Set RAQCOON_NOTIFY_URL to PostgreSQL's own address",
                self.location,
            )

        def connect() -> Awaitable[psycopg.AsyncConnection[Any]]:
            # Behind a pooler prepared statements could be lost, and here they would save little.
            return psycopg.AsyncConnection.connect(**self._notify_arguments, prepare_threshold=None)

        return Hints(connect, listener, epoch=epoch, identity=identity)

    def _connect(self) -> Driver:
        connection: Driver = psycopg.connect(**self._arguments)
        try:
            self._pooled = is_pooled(connection)
            if self._pooled:
                connection.prepare_threshold = None  # The next transaction may have another session.
            else:
                connection.execute(OF_SESSION)
        except BaseException:
            connection.close()
            raise
        return connection


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """The rows as one array for each column, as `unnest` needs them."""
    return [list(column) for column in zip(*rows, strict=True)]


def _message_rows(batch: Batch, microseconds: int) -> str:
    return orjson.dumps(
        [
            (m.channel_id, m.sequence, microseconds, m.author, m.lane, m.provider, m.token_count, key, m.content)
            for m, key in zip(batch.messages, batch.keys, strict=True)
        ]
    ).decode()
