"""What the server gives to one of its workers."""

import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass

from message_log.sql import SqlMessageLog
from workers.board import Buckets, Elsewhere
from workers.peers import Peers


@dataclass(frozen=True, slots=True)
class Part:
    """One worker's part.

    Attributes:
        listener: the listening socket.
        stop_listening: to be called with the listener before that is closed, since the supervisor holds it too.
        cut_signal: the signal that tells this process, when it drains, to wait for nobody any more.
        log: this worker's log, not open yet, if an owner writes it; None if each worker opens the log by itself.
        retains: whether this process is the one that removes messages.
        connections, sockets: how many of them the other workers have.
        authors, addresses: the token buckets of all workers; None if the rate of posts has no limit.
        peers: the other processes, and `figures_listener`, by which they ask this one.
        ready: to be called as soon as clients are served.
        first: whether this is the worker that logs what would be the same for all workers.
    """

    listener: socket.socket
    stop_listening: Callable[[socket.socket], None]
    cut_signal: signal.Signals
    log: SqlMessageLog | None
    retains: bool
    connections: Elsewhere
    sockets: Elsewhere
    authors: Buckets | None
    addresses: Buckets | None
    peers: Peers
    figures_listener: socket.socket
    ready: Callable[[], None]
    first: bool
