"""The files of a SQLite log, and whether their names still lead to the files that this process has open.

A file that was removed, renamed or replaced stays open, and everything committed to it is lost. So the names are looked
up again after each commit and before its posts are answered: what is acknowledged was, at that moment, in the file that
the next server will open. There is no protection against a file that is removed later.
"""

import os
import sqlite3
import time
from pathlib import Path

BESIDE_SECONDS = 0.01
"""How old the last check of the files that hold no message may be."""


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
        """Device and inode of the files that hold messages, by name."""
        self._beside: dict[str, tuple[int, int]] = {}
        """The same for the other files. Without the index, a tool that opens the database does not see our locks;
        without the lock, another server may start on it."""
        self._beside_at = 0.0

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
        self._holding = {name: self._identity(name) for name in (str(self._path), f"{self._path}-wal")}
        self._beside = {name: self._identity(name) for name in (f"{self._path}-shm", f"{self._path}.lock")}

    def check(self) -> None:
        """Looks the names up: always those of the files that hold messages, the others if that was a while ago.

        Raises:
            FileGone: one does not lead to the file that is held any more.
        """
        for name, held in self._holding.items():
            if self._identity(name) != held:
                raise FileGone(f"{name} was replaced under this server; restart it")
        now = time.monotonic()
        if now - self._beside_at > BESIDE_SECONDS:
            for name, held in self._beside.items():
                if self._identity(name) != held:
                    raise FileGone(f"{name} was replaced under this server; restart it")
            self._beside_at = now

    def close(self) -> None:
        """Closes the connection and forgets the files. Idempotent."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._holding, self._beside = None, {}, {}

    @staticmethod
    def _identity(name: str) -> tuple[int, int]:
        try:
            found = os.stat(name)
        except OSError as error:
            raise FileGone(f"{name} is gone ({error.strerror}); put it back, or restart the server") from None
        return found.st_dev, found.st_ino
