"""The sockets that workers listen on. On Linux each has its own, and the kernel spreads connections over them; on other
systems all share one."""

import socket
import sys
from collections.abc import Callable

EACH_ITS_OWN = sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")
"""On other systems SO_REUSEPORT is missing, or does not spread connections: the newest socket gets them all."""


class Listeners:
    """Made before the first fork and held by the supervisor too. So when a worker dies, the connections that wait to be
    accepted are not reset: its successor accepts them.

    Args:
        listen: makes a listening socket on a port, with SO_REUSEPORT or without; raises `StartupError`.
        port: 0 for a free one, which all share.
        count: how many workers there are.
    """

    def __init__(self, listen: Callable[[int, bool], socket.socket], port: int, count: int) -> None:
        self._listen = listen
        # The first one is made without SO_REUSEPORT: with it, another server of this user on that port would go
        # unnoticed.
        first = listen(port, False)
        self.address = first.getsockname()
        if not EACH_ITS_OWN:
            self._sockets: list[socket.socket | None] = [first] * count
            return
        first.close()
        self._sockets = []
        for _ in range(count):
            self._sockets.append(listen(self.address[1], True))

    def of(self, index: int) -> socket.socket:
        """The socket of one worker; a new one if the last one does not listen any more."""
        found = self._sockets[index]
        if found is None or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found = self._sockets[index] = self._listen(self.address[1], EACH_ITS_OWN)
        return found

    def pause(self, index: int) -> None:
        """Closes the socket of a worker that will be away for a while, so that its connections go to others."""
        found = self._sockets[index]
        if EACH_ITS_OWN and found is not None:
            found.close()
            self._sockets[index] = None

    def close(self, *, but: int | None = None) -> None:
        """Closes all of them in this process, except that of one worker."""
        kept = None if but is None else self._sockets[but]
        for found in self._sockets:
            if found is not None and found is not kept:
                found.close()


def stop_listening(listener: socket.socket) -> None:
    """Ends listening on a worker's own socket, although the supervisor still holds it."""
    if EACH_ITS_OWN:
        listener.shutdown(socket.SHUT_RDWR)
