"""Options of the server's sockets in the kernel. Connections inherit the options of the listener that accepts them."""

import socket
from typing import Any

NOTSENT_BYTES = 128 * 1024
"""Unsent bytes that the kernel may hold for a socket. With 32 kB there are so many pauses that catching up is five
times slower."""


def limit_unsent(sock: Any) -> None:
    """Limits what the kernel holds of the bytes that a slow client has not taken to `NOTSENT_BYTES` (Linux, macOS)."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if hasattr(socket, "TCP_QUICKACK") else None)
    if option is not None and _is_tcp(sock):
        sock.setsockopt(socket.IPPROTO_TCP, option, NOTSENT_BYTES)


def limit_unacknowledged(sock: Any, seconds: float) -> None:
    """Ends a connection whose client has acknowledged nothing of what it was sent for `seconds` (Linux).

    The heartbeats of an event stream never fill a buffer, so nothing else notices that its client has gone without
    closing the connection. By default the kernel goes on trying for a quarter of an hour.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None and _is_tcp(sock):
        sock.setsockopt(socket.IPPROTO_TCP, option, min(int(seconds * 1000), 2**31 - 1))


def _is_tcp(sock: Any) -> bool:
    return sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6)
