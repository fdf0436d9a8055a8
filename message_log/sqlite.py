"""The log in one SQLite file: one server, no other process."""

import logging
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import orjson
from filelock import FileLock, Timeout
from sqlalchemy import (
    BLOB,
    URL,
    Column,
    ColumnElement,
    Connection,
    Engine,
    QueuePool,
    Select,
    bindparam,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy import cast as sql_cast
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError

from changes import ChangeDraft
from errors import StartupError
from message_log.batch import Batch, keys_of, merged, plan, split
from message_log.changing import STORED_COLUMNS, Changing
from message_log.dialect import InDoubt, NotVouchedFor
from message_log.protocol import LogListener
from message_log.sqlite_files import FileGone, SqliteFiles
from message_rows import to_microseconds
from messages import Draft

logger = logging.getLogger(__name__)

SCRUB_MILLISECONDS = 250
"""How long posts wait at most for readers of the write-ahead log when something was erased."""
BUSY_TIMEOUT_SECONDS = 2.0
"""How long a statement waits for a lock that another tool holds on the file; then the posts fail."""

PRAGMAS = (
    "PRAGMA journal_mode = WAL",  # readers and the writer do not wait for each other
    "PRAGMA synchronous = FULL",  # the write-ahead log is on the disk before a commit returns: survives power loss
    "PRAGMA fullfsync = ON",  # macOS only: its plain fsync leaves the data in the disk's cache
    "PRAGMA cache_size = -16384",  # KiB a connection; the default of 2,000 re-reads pages when channels are many
    "PRAGMA journal_size_limit = 67108864",  # bytes kept of the write-ahead log once a burst is over
    "PRAGMA temp_store = MEMORY",
    "PRAGMA secure_delete = ON",  # what was erased is overwritten, also where a page has only been rearranged
)

_UNREADABLE = frozenset(
    (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_IOERR_READ,
        sqlite3.SQLITE_IOERR_SHORT_READ,
        sqlite3.SQLITE_IOERR_DATA,
        sqlite3.SQLITE_IOERR_CORRUPTFS,
    )
)
"""SQLite's codes for a file that cannot be read, or whose content is wrong."""

# Each statement gets a whole batch as one JSON array. Every call into SQLite releases the GIL and has to get it back.
# So beside a busy event loop the number of calls decides how long a batch takes, not the work that they do.
_HEADS = "SELECT channel_id, last_sequence FROM channels WHERE channel_id IN (SELECT value FROM json_each(?))"
_EARLIER = f"""
SELECT {STORED_COLUMNS}
FROM json_each(?) AS k
JOIN messages AS m ON m.channel_id = json_extract(k.value, '$[0]') AND m.author = json_extract(k.value, '$[1]')
    AND m.idempotency_key = json_extract(k.value, '$[2]')
"""
_INSERT_MESSAGES = """
INSERT INTO messages
    (channel_id, sequence, timestamp, author, lane, provider, token_count, idempotency_key, content)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
    json_extract(value, '$[6]'), json_extract(value, '$[7]'), json_extract(value, '$[8]')
FROM json_each(?)
"""
_RAISE_HEADS = """
INSERT INTO channels (channel_id, last_sequence)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?) WHERE true
ON CONFLICT (channel_id) DO UPDATE SET last_sequence = excluded.last_sequence
"""
_ADD_TOTALS = """
INSERT INTO totals (channel_id, provider, lane, messages, tokens)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
    json_extract(value, '$[3]'), json_extract(value, '$[4]') FROM json_each(?) WHERE true
ON CONFLICT (channel_id, provider, lane) DO UPDATE
SET messages = messages + excluded.messages, tokens = tokens + excluded.tokens
"""

# A small batch that only posts is stored by one statement, and so by one call: the rows are inserted into a view, and
# its trigger does for each row what the statements above do for all. With more rows the statements are cheaper.
_AT_ONCE_MAX = 32
_POSTING = (
    """
CREATE TEMP VIEW IF NOT EXISTS posting AS
SELECT channel_id, sequence, timestamp, author, lane, provider, token_count, idempotency_key, content FROM messages
""",
    """
CREATE TEMP TRIGGER IF NOT EXISTS post INSTEAD OF INSERT ON posting BEGIN
    INSERT INTO messages
        (channel_id, sequence, timestamp, author, lane, provider, token_count, idempotency_key, content)
    VALUES (NEW.channel_id, NEW.sequence, NEW.timestamp, NEW.author, NEW.lane, NEW.provider, NEW.token_count,
        NEW.idempotency_key, NEW.content);
    INSERT INTO channels (channel_id, last_sequence) VALUES (NEW.channel_id, NEW.sequence)
    ON CONFLICT (channel_id) DO UPDATE SET last_sequence = excluded.last_sequence;
    INSERT INTO totals (channel_id, provider, lane, messages, tokens)
    VALUES (NEW.channel_id, coalesce(NEW.provider, ''), coalesce(NEW.lane, ''), 1, coalesce(NEW.token_count, 0))
    ON CONFLICT (channel_id, provider, lane) DO UPDATE
    SET messages = messages + excluded.messages, tokens = tokens + excluded.tokens;
END
""",
)
_POST = "INSERT INTO posting VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_POST_ALL = _INSERT_MESSAGES.replace("INSERT INTO messages", "INSERT INTO posting", 1)
HEADS_MAX = 10_000
"""Channels whose last sequence is remembered, since nobody else changes it. This takes about 1.5 MB."""


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _rows(name: str, columns: tuple[tuple[str, str], ...]) -> str:
    values = ", ".join(f"json_extract(value, '$[{place}]') AS {column}" for place, (column, _) in enumerate(columns))
    return f"(SELECT {values} FROM json_each(?)) AS {name}"


class SqliteDialect:
    """A SQLite file. This process holds it by a lock on a second file, `<name>.lock`.

    SQLite's own locks cannot make sure that there is only one server: every transaction takes and releases them. The
    operating system releases the lock when the process ends, for whatever reason.
    """

    exclusive = True
    clock: str | None = None
    creates = True
    """Whether the file is made if it does not exist."""
    bounds_bytes = False
    counts_changes = False
    """Each table that a commit touches is a page that it writes, and for one piece they would be most of them."""

    def __init__(self, url: URL) -> None:
        name = url.database
        if not name or name == ":memory:" or name.startswith("file:") or url.query:
            raise StartupError(
                f"{url.render_as_string()!r} does not name a SQLite file; write sqlite:///path/to/file.db"
            )
        # Resolved, so that two names of one file have the same lock, and a change of directory makes no difference.
        try:
            self.path = Path(name).expanduser().resolve()
        except (OSError, RuntimeError) as error:
            raise StartupError(f"the SQLite file {name} cannot be used: {error}") from None
        self.location = str(self.path)
        self._lock: FileLock | None = None
        self._statements: dict[Select[Any], tuple[str, tuple[str, ...], Mapping[str, Any]]] = {}
        self._files = SqliteFiles(self.path, creates=self.creates)
        self._heads: dict[str, int] = {}
        """Last sequences as this process committed them. Only the writer's thread uses it."""
        self._prepared: sqlite3.Connection | None = None
        """The connection that has the view of `_POSTING`."""
        self._changing = Changing(_rows, counts_changes=self.counts_changes)

    def claim(self) -> None:
        try:
            folder = self.path.parent
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                # If the path was mistyped, the new log would otherwise look like one that has lost everything.
                logger.info("the folder %s did not exist: it was made, for a new SQLite log", folder)
            # Without `fallback_to_soft=False`, a file system that has no locks would get a lock file that stays when
            # the server is killed.
            lock = FileLock(f"{self.path}.lock", thread_local=False, fallback_to_soft=False, preserve_lock_file=True)
            lock.acquire(blocking=False)
        except Timeout:
            raise StartupError(f"another running server holds the SQLite file {self.path}") from None
        except OSError as error:
            raise StartupError(f"the SQLite file {self.path} cannot be used: {error.strerror or error}") from None
        self._lock = lock

    def release(self) -> None:
        self._files.close()
        if self._lock is not None:
            self._lock.release(force=True)
            self._lock = None

    def engine(self, connections: int) -> Engine:
        engine = create_engine(
            "sqlite://",
            creator=lambda: self._files.connect(BUSY_TIMEOUT_SECONDS),
            poolclass=QueuePool,  # what SQLAlchemy would choose for a file, but the URL here does not name one
            isolation_level="AUTOCOMMIT",
            pool_size=connections,
            max_overflow=0,
            pool_reset_on_return=None,
            hide_parameters=True,  # failures are logged, but not who posted what
        )

        @event.listens_for(engine, "connect")
        def prepare(driver: DBAPIConnection, _record: object) -> None:
            cursor = driver.cursor()
            for pragma in PRAGMAS:
                cursor.execute(pragma)
            cursor.close()

        return engine

    def tidy(self, connection: Connection) -> None:
        """Does nothing: a process leaves only its messages behind."""

    def begin_migration(self, connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        try:
            self._files.hold(BUSY_TIMEOUT_SECONDS)
        except sqlite3.Error as error:
            raise StartupError(f"the SQLite file {self.path} cannot be used: {error}") from error

    def is_any(self, column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
        listed = func.json_each(bindparam(None, _json(list(values)))).table_valued("value")
        return column.in_(select(listed.c.value))

    def rows(self, connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]) -> Iterable[Any]:
        # Executed by the driver, since SQLAlchemy would double the time for a row. Errors of the driver are raised as
        # those of SQLAlchemy.
        known = self._statements.get(statement)
        if known is None:
            compiled = statement.compile(dialect=connection.dialect)
            # Values that are written into the statement, for example a limit of 1, are parameters too.
            known = self._statements[statement] = str(compiled), tuple(compiled.positiontup or ()), compiled.params
        text, names, written = known
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        values = [parameters[name] if name in parameters else written[name] for name in names]
        try:
            return driver.execute(text, values).fetchall()
        except sqlite3.Error as error:
            raise DBAPIError.instance(text, None, error, sqlite3.Error, dialect=connection.dialect) from error

    def octets(self, column: ColumnElement[str]) -> ColumnElement[int]:
        return func.length(sql_cast(column, BLOB))

    def append(
        self, driver: DBAPIConnection, drafts: Sequence[Draft | ChangeDraft], timestamp: datetime, epoch: str
    ) -> Batch:
        connection = cast(sqlite3.Connection, driver)
        posts, changes = split(drafts)
        try:
            batch = None if changes else self._append_at_once(connection, posts, timestamp, epoch)
            if batch is None:
                batch = self._append_in_steps(connection, drafts, posts, changes, timestamp, epoch)
        except BaseException:
            self._heads.clear()
            self._changing.forget()
            raise
        try:
            self._files.check()
        except FileGone as error:
            raise NotVouchedFor(str(error), batch) from error
        return batch

    def _append_at_once(
        self, connection: sqlite3.Connection, posts: Sequence[Draft], timestamp: datetime, epoch: str
    ) -> Batch | None:
        """Stores a small batch with one statement. None if it needs several; then nothing was stored."""
        if len(posts) > _AT_ONCE_MAX:
            return None
        for post in posts:
            if not post.complete or post.channel_id not in self._heads:
                return None
        # The unique index finds out whether a key names a message already.
        batch = plan(posts, self._heads, {}, timestamp=timestamp, epoch=epoch)
        rows = self._rows(batch, to_microseconds(timestamp))
        if self._prepared is not connection:
            for statement in _POSTING:
                connection.execute(statement)
            self._prepared = connection
        try:
            if len(rows) == 1:
                connection.execute(_POST, rows[0])
            else:
                connection.execute(_POST_ALL, (_json(rows),))
        except sqlite3.IntegrityError as error:
            # If it is not a key that names a message already, somebody else has changed the file. Then what is
            # remembered here is wrong, not the post.
            if error.sqlite_errorcode != sqlite3.SQLITE_CONSTRAINT_UNIQUE:
                self._heads.clear()
            return None
        self._heads.update(batch.heads)
        return batch

    def _append_in_steps(
        self,
        connection: sqlite3.Connection,
        drafts: Sequence[Draft | ChangeDraft],
        posts: Sequence[Draft],
        changes: Sequence[ChangeDraft],
        timestamp: datetime,
        epoch: str,
    ) -> Batch:
        channel_ids = _json(list({draft.channel_id for draft in posts}))
        keys = keys_of(posts)

        def execute(statement: str, rows: str) -> sqlite3.Cursor:
            return connection.execute(statement, (rows,))

        remember = None
        connection.execute("BEGIN IMMEDIATE")
        try:
            heads = dict(connection.execute(_HEADS, (channel_ids,)).fetchall()) if posts else {}
            earlier = self._changing.earlier(execute, _EARLIER, _json(keys), epoch) if keys else {}
            batch = plan(posts, heads, earlier, timestamp=timestamp, epoch=epoch)
            if batch.messages:
                self._write(connection, batch, to_microseconds(timestamp))
                growing = [message for message in batch.messages if not message.complete]
                if growing:
                    self._changing.begin_growing(execute, growing, timestamp)
            if changes:
                changed, remember = self._changing.run(execute, changes, timestamp, epoch)
                batch = merged(drafts, batch, changed.outcomes, changed.changes)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # when the disk is full, SQLite has rolled back already
                connection.execute("ROLLBACK")
            raise
        if remember is not None:
            remember()
        if len(self._heads) > HEADS_MAX:
            self._heads.clear()
        self._heads.update(batch.heads)
        return batch

    def prove(self, driver: DBAPIConnection) -> None:
        connection = cast(sqlite3.Connection, driver)
        # This writes one page of the write-ahead log, as a small post does. An UPDATE without a change would write
        # nothing.
        connection.execute("PRAGMA user_version = 0")
        self._files.check()

    def scrub(self, driver: DBAPIConnection) -> bool:
        connection = cast(sqlite3.Connection, driver)
        connection.execute(f"PRAGMA busy_timeout = {SCRUB_MILLISECONDS}")
        try:
            (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_SECONDS * 1000)}")
        return not busy

    @staticmethod
    def _rows(batch: Batch, microseconds: int) -> list[tuple[Any, ...]]:
        return [
            (m.channel_id, m.sequence, microseconds, m.author, m.lane, m.provider, m.token_count, key, m.content)
            for m, key in zip(batch.messages, batch.keys, strict=True)
        ]

    @staticmethod
    def _write(connection: sqlite3.Connection, batch: Batch, microseconds: int) -> None:
        rows = SqliteDialect._rows(batch, microseconds)
        connection.execute(_INSERT_MESSAGES, (_json(rows),))
        connection.execute(_RAISE_HEADS, (_json(list(batch.heads.items())),))
        connection.execute(_ADD_TOTALS, (_json([(*group, *added) for group, added in batch.totals.items()]),))

    def settle(self, driver: DBAPIConnection, doubt: InDoubt) -> Batch | None:
        raise NotImplementedError("a SQLite commit is never in doubt")

    def lost(self, driver: DBAPIConnection) -> bool:
        return False

    def blames_post(self, error: Exception) -> bool:
        return isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | ValueError | TypeError | OverflowError)

    def damaged(self, error: object) -> bool:
        code = getattr(error, "sqlite_errorcode", None)
        return isinstance(code, int) and (code in _UNREADABLE or code & 0xFF in _UNREADABLE)

    def abort(self, driver: DBAPIConnection) -> None:
        cast(sqlite3.Connection, driver).interrupt()

    def read_many(self, columns: Sequence[Column[Any]], text: Column[Any]) -> None:
        return None

    def identify(self, connection: Connection) -> str:
        return ""

    def hints(self, listener: LogListener, *, epoch: str, identity: str) -> None:
        return None
