"""Where the processes of one server meet: a directory that only this user can open, with their Unix sockets."""

import contextlib
import os
import shutil
import socket
import tempfile
import time
from pathlib import Path

from errors import StartupError

OWNER = "owner"
_PATH_BYTES_MAX = 90
"""The longest path of the directory: the whole path of a Unix socket may have 103 bytes on macOS, 107 on Linux."""
_LOCK = "lock"
_FORGOTTEN_SECONDS = 60.0
"""A directory without a server that is older than this was left behind by a server that was killed (`kill -9`)."""


class Place:
    """The directory, for as long as the server runs. The supervisor makes it; the other processes know its paths.

    Raises:
        StartupError: it cannot be made.
    """

    def __init__(self) -> None:
        base = tempfile.gettempdir()
        if len(os.fsencode(base)) > _PATH_BYTES_MAX - 30:
            base = "/tmp"
        prefix = f"raqcoon-{os.geteuid()}-"
        try:
            _remove_forgotten(Path(base), prefix)
            self.path = Path(tempfile.mkdtemp(prefix=prefix, dir=base))  # mode 0700
            self._lock = os.open(self.path / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            _try_lock(self._lock)
        except OSError as error:
            raise StartupError(f"workers need a directory for their sockets in {base}: {error.strerror}") from None

    def socket_path(self, name: str) -> str:
        """The path of a process's socket."""
        return str(self.path / f"{name}.sock")

    def listen(self, name: str) -> socket.socket:
        """A listening Unix socket at that path, with mode 0600. It replaces one that is there already."""
        path = self.socket_path(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX)
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        listener.listen(128)
        return listener

    def remove(self) -> None:
        """Removes the directory with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


def _try_lock(file: int) -> bool:
    """Locks a file until every process that has it open has ended. False if others have locked it."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove_forgotten(base: Path, prefix: str) -> None:
    for path in base.glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            about = path.lstat()
            if about.st_uid != os.geteuid() or time.time() - about.st_mtime < _FORGOTTEN_SECONDS:
                continue
            file = os.open(path / _LOCK, os.O_RDWR)
            try:
                if _try_lock(file):
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(file)
