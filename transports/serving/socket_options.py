"""What the kernel is told about the server's sockets. Options set on a listener are inherited by what it accepts."""

import socket
from typing import Any

NOTSENT_BYTES = 128 * 1024
"""Unsent bytes the kernel may hold for a socket; 32 kB pauses so often that catching up is five times slower."""


def limit_unsent(sock: Any) -> None:
    """Keeps the kernel's share of what a slow client has not taken to `NOTSENT_BYTES` (Linux and macOS)."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", 25 if hasattr(socket, "TCP_QUICKACK") else None)
    if option is not None and _is_tcp(sock):
        sock.setsockopt(socket.IPPROTO_TCP, option, NOTSENT_BYTES)


def limit_unacknowledged(sock: Any, seconds: float) -> None:
    """Ends a connection whose client has acknowledged nothing for `seconds` of what it was sent (Linux).

    The heartbeats of an event stream never fill a buffer, so nothing else notices that its client is gone without a
    word; by itself the kernel tries for a quarter of an hour.
    """
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None and _is_tcp(sock):
        sock.setsockopt(socket.IPPROTO_TCP, option, min(int(seconds * 1000), 2**31 - 1))


def _is_tcp(sock: Any) -> bool:
    return sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6)
