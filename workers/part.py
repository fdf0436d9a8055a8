"""What one worker has of the server that it is a part of."""

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
        stop_listening: to be called with it before it is closed, since the supervisor holds it too.
        cut_signal: what tells this process, when it drains, to wait for nobody any more.
        log: this worker's log, not open yet, where the owner has it; None where each worker opens it by itself.
        retains: whether this process is the one that removes messages.
        connections, sockets: what the other workers have of them.
        authors, addresses: the token buckets of all workers; None where posts have no rate.
        peers: the other processes, and `figures_listener`, by which they ask this one.
        ready: to be called once clients are served.
        first: whether this is the worker that tells what all would tell alike.
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
