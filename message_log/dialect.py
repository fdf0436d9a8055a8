"""What differs between the databases, and nothing else. `sqlite.py` and `postgresql.py` implement it."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Column, ColumnElement, Connection, Engine, Select
from sqlalchemy.engine.interfaces import DBAPIConnection

from changes import ChangeDraft
from message_log.batch import Batch
from message_log.hints import Hints
from message_log.protocol import LogListener
from messages import Draft


class InDoubt(Exception):
    """Raised when the connection was lost while a transaction may have been committed.

    `commit` is the number of that transaction among those of this process. `batch` tells what it has committed, given
    the heads that it has stored with its number.
    """

    def __init__(self, commit: int, batch: Callable[[Mapping[str, int]], Batch]) -> None:
        super().__init__("the connection was lost during a commit")
        self.commit = commit
        self.batch = batch


class NotVouchedFor(Exception):
    """Raised when `batch` was committed, but perhaps into files that the next server will not open.

    If a later commit of this process succeeds, `batch` was stored after all.
    """

    def __init__(self, text: str, batch: Batch) -> None:
        super().__init__(text)
        self.batch = batch


class Dialect(Protocol):
    """One kind of database at one address. All methods block, so they are called only in threads."""

    exclusive: bool
    """Whether this process alone may append while the log is open."""

    location: str
    """Where the log is, for people; without credentials."""

    bounds_bytes: bool
    """Whether a bound on bytes should be kept by the database, because a result is always sent whole."""

    clock: str | None
    """The database's clock in microseconds since 1970, as SQL; None where the one process that writes is its clock."""

    counts_changes: bool
    """Whether every change is counted in `channels` and `growing`. If not, the newest rows of `changes` say more."""

    def claim(self) -> None:
        """If `exclusive`, takes the lock that makes this process the only one that uses the log.

        Raises:
            StartupError: another process has the lock, or the place cannot be used.
        """

    def release(self) -> None:
        """Releases what `claim` took. Idempotent."""

    def engine(self, connections: int) -> Engine:
        """Up to `connections` connections, ready for use, in autocommit mode: transactions are begun in SQL."""

    def tidy(self, connection: Connection) -> None:
        """Removes what processes of long ago have left behind. It runs after the migration, in the same transaction."""

    def begin_migration(self, connection: Connection) -> None:
        """Begins the transaction in which the schema is migrated. Only one process at a time gets past it."""

    def is_any(self, column: ColumnElement[str], values: Collection[str]) -> ColumnElement[bool]:
        """Whether `column` is one of `values`, as one parameter however many there are."""

    def rows(self, connection: Connection, statement: Select[Any], parameters: Mapping[str, Any]) -> Iterable[Any]:
        """The rows of a statement that reads. The values are as the driver returns them."""

    def read_many(self, columns: Sequence[Column[Any]], text: Column[Any]) -> str | None:
        """A statement that reads many channels at once. None if a statement for each channel costs no round trip.

        Its parameters: channel ids, the positions in them, and for each channel a limit of rows and one of bytes of
        `text`. `columns` begin with the channel's id and the sequence.
        """

    def octets(self, column: ColumnElement[str]) -> ColumnElement[int]:
        """The length of a text in bytes of UTF-8."""

    def append(
        self, driver: DBAPIConnection, drafts: Sequence[Draft | ChangeDraft], timestamp: datetime, epoch: str
    ) -> Batch:
        """Runs the whole transaction that posts and changes what `drafts` say, and commits it. Posts come first.

        Raises:
            InDoubt: the connection was lost when the commit was under way.
            NotVouchedFor: it was committed, and whether it will be there after a restart is unknown.
            Exception: nothing was stored, nor will be.
        """

    def scrub(self, driver: DBAPIConnection) -> bool:
        """Overwrites what erased messages have left in the database's files, if this server can do that. False: readers
        were in the way, and it has to be tried again."""

    def settle(self, driver: DBAPIConnection, doubt: InDoubt) -> Batch | None:
        """What the transaction in doubt has committed. None: it was not committed, and never will be."""

    def prove(self, driver: DBAPIConnection) -> None:
        """Commits something without an effect, which shows whether the database accepts posts. It makes no file grow.

        Raises:
            Exception: it does not accept posts now.
        """

    def damaged(self, error: object) -> bool:
        """Whether a driver's error means that the stored data is damaged, so that a repeat would not help."""

    def lost(self, driver: DBAPIConnection) -> bool:
        """Whether a connection that raised an error is lost, so that a new one may succeed."""

    def blames_post(self, error: Exception) -> bool:
        """Whether an error comes from the content of a post, so that the other posts may succeed without it."""

    def abort(self, driver: DBAPIConnection) -> None:
        """Makes the call that another thread waits for on this connection fail. The connection may be lost by it."""

    def identify(self, connection: Connection) -> str:
        """What distinguishes this log from a copy of it in another place. It stays the same after a fail-over."""

    def hints(self, listener: LogListener, *, epoch: str, identity: str) -> Hints | None:
        """What carries hints between the processes that share this log, or None when there is only one."""
