"""The sockets that workers listen on: one each, between which Linux spreads connections; elsewhere one for all."""

import socket
import sys
from collections.abc import Callable

EACH_ITS_OWN = sys.platform == "linux" and hasattr(socket, "SO_REUSEPORT")
"""Elsewhere SO_REUSEPORT is missing, or spreads nothing: the newest socket gets all connections."""


class Listeners:
    """Made before the first fork and held by the supervisor too: a worker that dies leaves no connection reset that
    waits to be accepted; who comes after it accepts them.

    Args:
        listen: makes a listening socket on a port, with SO_REUSEPORT or without; raises `StartupError`.
        port: 0 for a free one, which all share.
        count: how many workers there are.
    """

    def __init__(self, listen: Callable[[int, bool], socket.socket], port: int, count: int) -> None:
        self._listen = listen
        # Without SO_REUSEPORT first: with it, another server of this user on that port would not be noticed.
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
        """The socket of one worker; a new one where its last one listens no more."""
        found = self._sockets[index]
        if found is None or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found = self._sockets[index] = self._listen(self.address[1], EACH_ITS_OWN)
        return found

    def pause(self, index: int) -> None:
        """Lets nobody wait for a worker that will not be there for a while: others are asked instead."""
        found = self._sockets[index]
        if EACH_ITS_OWN and found is not None:
            found.close()
            self._sockets[index] = None

    def close(self, *, but: int | None = None) -> None:
        """Closes all in this process, but for one worker's."""
        kept = None if but is None else self._sockets[but]
        for found in self._sockets:
            if found is not None and found is not kept:
                found.close()


def stop_listening(listener: socket.socket) -> None:
    """Lets nobody wait any more, though the supervisor holds the socket too."""
    if EACH_ITS_OWN:
        listener.shutdown(socket.SHUT_RDWR)
