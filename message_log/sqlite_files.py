"""The files of a SQLite log, and whether their names still lead to the files that this process has open.

A file that was removed, renamed or replaced stays open, and everything committed to it is lost. So the names are
checked again after each commit and before its posts are answered: what is acknowledged was, at that moment, in the file
that the next server will open. There is no protection against a file that is removed later.

A name cannot lead to another file without a change of its folder. So usually only the folder is looked up. Looking up
the write-ahead log itself is expensive between two commits: since Linux 6.13, a write that follows a look must record a
new time for the file, and the commit then waits for that too.
"""

import os
import sqlite3
import time
from pathlib import Path

SETTLED_SECONDS = 2.5
"""How long a folder must have been unchanged before its time of change (`ctime`, which no program can set) is relied
on. File systems round that time, often to 4 ms, old ones to 2 s: two changes that follow each other closely may have
the same one."""


class FileGone(sqlite3.OperationalError):
    """Raised when a name does not lead to the file that is open any more."""


class SqliteFiles:
    """The database, its write-ahead log, the index of that log, and the lock of the server.

    It holds a connection of its own from `hold` to `close`. SQLite removes the write-ahead log when the last connection
    is closed and makes a new one for the next, so without this connection the files would change by themselves.
    """

    def __init__(self, path: Path, *, creates: bool = True) -> None:
        self._path = path
        self._creates = creates
        self._connection: sqlite3.Connection | None = None
        self._holding: dict[str, tuple[int, int]] = {}
        """Device and inode of each file, by name. Two of them hold no messages. But without the index, a tool that
        opens the database does not see our locks; and without the lock, another server may start on it."""
        self._folder: tuple[int, int, int] | None = None
        """Device, inode and time of change of the folder in which all names led to these files. None if they have to be
        looked up one by one."""

    def connect(self, timeout_seconds: float) -> sqlite3.Connection:
        """A connection to the file that is held. While none is held, to the file that is there; with `creates`, it is
        made if there is none.

        Raises:
            sqlite3.Error: the file cannot be opened, or is not the one that is held.
        """
        self.check()
        mode = "rwc" if self._creates and not self._holding else "rw"
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode={mode}", uri=True, timeout=timeout_seconds, check_same_thread=False
        )
        try:
            self.check()  # The name led to the held file before and after, so this connection is to that file.
        except FileGone:
            connection.close()
            raise
        return connection

    def hold(self, timeout_seconds: float) -> None:
        """Notes the files as they are now as the right ones. Call it while a connection has a transaction open.

        Raises:
            sqlite3.Error: the file cannot be read.
        """
        if self._holding:
            return
        self._connection = self.connect(timeout_seconds)
        self._connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        names = (str(self._path), *(f"{self._path}{suffix}" for suffix in ("-wal", "-shm", ".lock")))
        self._holding = {name: self._identity(name) for name in names}

    def check(self) -> None:
        """Finds out whether each name leads to the file that is held.

        Raises:
            FileGone: one does not any more.
        """
        if not self._holding:
            return
        # Looked up before the files: a change that comes in between shows at the next check.
        folder = self._look_up(str(self._path.parent))
        seen = folder.st_dev, folder.st_ino, folder.st_ctime_ns
        if seen == self._folder:
            return
        self._folder = None
        for name, held in self._holding.items():
            if self._identity(name) != held:
                raise FileGone(f"{name} was replaced under this server; restart it")
        if time.time_ns() - folder.st_ctime_ns > SETTLED_SECONDS * 1e9:
            self._folder = seen

    def close(self) -> None:
        """Closes the connection and forgets the files. Idempotent."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._holding, self._folder = None, {}, None

    @classmethod
    def _identity(cls, name: str) -> tuple[int, int]:
        found = cls._look_up(name)
        return found.st_dev, found.st_ino

    @staticmethod
    def _look_up(name: str) -> os.stat_result:
        try:
            return os.stat(name)
        except OSError as error:
            raise FileGone(f"{name} is gone ({error.strerror}); put it back, or restart the server") from None
