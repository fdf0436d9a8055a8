"""The composition of a server with several processes: a supervisor, its workers, and on SQLite the log's owner.

`server.py` says how one process serves; this module makes several of them one server. See `workers/`.
"""

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector

from errors import StartupError
from message_log.growth import Growth, GrowthPolicy
from message_log.retention import Retention, RetentionPolicy
from message_log.sql import SqlMessageLog
from message_log.writer import WriterLimits
from resolvers.post_rate import burst_of
from settings import Settings
from transports.sight import sums
from transports.sight.logs import name_process
from workers.board import Board, Buckets
from workers.child import CUT_SIGNAL, Lifeline
from workers.listeners import Listeners, stop_listening
from workers.log import WorkerLog
from workers.owner import LogOwner
from workers.part import Part
from workers.peers import Peers
from workers.place import OWNER, Place
from workers.supervisor import Supervisor

logger = logging.getLogger("raqcoon")

GATHER_SECONDS = 0.002
"""How long the log's owner waits, at most, for posts that are likely to come. Every commit wakes the owner and all
workers, which costs more than the commit itself when they share cores."""

Run = Callable[[Coroutine[Any, Any, None]], None]


def supervise(
    settings: Settings,
    *,
    listen: Callable[[int, bool], socket.socket],
    serve: Callable[[Part], Coroutine[Any, Any, None]],
    run: Run,
    announce: Callable[[str, int, str], None],
) -> None:
    """Runs the server until SIGTERM or SIGINT.

    Args:
        listen: makes the listening socket on a port, with SO_REUSEPORT or without.
        serve: what a worker does.
        run: runs a coroutine on a new event loop.
        announce: called once when the server listens, with host, port, and where the log is.

    Raises:
        StartupError: the address, the log or a setting cannot be used.
    """
    if not hasattr(os, "fork") or not hasattr(socket, "AF_UNIX"):
        raise StartupError("RAQCOON_WORKERS above 1 needs a system with fork and Unix sockets, such as Linux or macOS")
    log = SqlMessageLog(
        settings.database_url, notify_url=settings.notify_url
    )  # It is not opened: it knows where the log lies, and of which kind.
    listeners = Listeners(listen, settings.port, settings.worker_count)
    place = Place()
    try:
        _Server(settings, listeners, place, log, serve, run, announce).run()
    finally:
        place.remove()


class _Server:
    """What all processes of a server know. The supervisor makes it, and the others have it because they are forked."""

    def __init__(
        self,
        settings: Settings,
        listeners: Listeners,
        place: Place,
        log: SqlMessageLog,
        serve: Callable[[Part], Coroutine[Any, Any, None]],
        run: Run,
        announce: Callable[[str, int, str], None],
    ) -> None:
        self._settings = settings
        self._listeners = listeners
        self._location = log.location
        self._owned = log.exclusive
        self._serve = serve
        self._run = run
        self._announce = announce
        self._count = settings.worker_count
        self._owner_path = place.socket_path(OWNER)
        self._owner_listener = place.listen(OWNER) if self._owned else None
        names = [str(index + 1) for index in range(self._count)] + ([OWNER] if self._owned else [])
        self._figures_paths = {name: place.socket_path(f"figures-{name}") for name in names}
        self._figures_listeners = {name: place.listen(f"figures-{name}") for name in names}
        self._board = Board(len(names))
        rate = settings.posts_per_second
        self._authors = None if rate is None else Buckets(rate, burst_of(rate))
        self._addresses = None if rate is None else Buckets(rate, burst_of(rate))

    def run(self) -> None:
        # All processes share the memory of the objects that exist now, as long as nobody writes to it. A garbage
        # collection would write to it, so it must not look at them.
        gc.collect()
        gc.freeze()
        Supervisor(
            [self._worker(index) for index in range(self._count)],
            self._own if self._owned else None,
            self._listeners,
            drain_seconds=self._settings.drain_seconds,
            forked=self._forked,
            replaces=self._board.clear,
            started=self._started,
        ).run()

    def _started(self) -> None:
        host, port = self._listeners.address[:2]
        self._announce(host, port, self._location)

    def _forked(self, index: int | None) -> None:
        """In a new process: names it, and closes what belongs to the others."""
        name = OWNER if index is None else str(index + 1)
        name_process(worker=None if index is None else index + 1, process=OWNER if index is None else None)
        for other, listener in self._figures_listeners.items():
            if other != name:
                listener.close()
        if index is not None and self._owner_listener is not None:
            self._owner_listener.close()

    def _peers(self, name: str) -> Peers:
        return Peers(self._figures_paths, name, self._board, workers=self._count, commits_are_told_to_all=self._owned)

    def _worker(self, index: int) -> Callable[[Lifeline], None]:
        def work(lifeline: Lifeline) -> None:
            name = str(index + 1)
            part = Part(
                listener=self._listeners.of(index),
                stop_listening=stop_listening,
                cut_signal=CUT_SIGNAL,
                log=WorkerLog(self._settings.database_url, self._owner_path) if self._owned else None,
                retains=not self._owned and index == 0,
                connections=self._board.connections.of(index),
                sockets=self._board.sockets.of(index),
                authors=self._authors,
                addresses=self._addresses,
                peers=self._peers(name),
                figures_listener=self._figures_listeners[name],
                ready=lifeline.ready,
                first=index == 0,
            )
            self._run(self._serve(part))

        return work

    def _own(self, lifeline: Lifeline) -> None:
        self._run(self._serve_log(lifeline))

    async def _serve_log(self, lifeline: Lifeline) -> None:
        """Runs the log's owner. On SIGTERM it ends after the last worker has ended, since it stores their posts."""
        assert self._owner_listener is not None
        asked_to_end = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to_end.set)
        log = SqlMessageLog(self._settings.database_url, limits=WriterLimits(gather_seconds=GATHER_SECONDS))
        owner = LogOwner(log)
        await log.open(owner)
        retention = Retention(log, self._settings.part(RetentionPolicy))
        retention.start()
        growth = Growth(log, self._settings.part(GrowthPolicy))
        growth.start()
        peers = self._peers(OWNER)
        registry = CollectorRegistry()
        ProcessCollector(namespace="raqcoon", registry=registry)
        earlier = sums.growing(sums.decode(peers.earlier()))

        def figures() -> bytes:
            encoded = sums.encode(sums.added([sums.figures_of(registry.collect()), earlier]))
            peers.keep(encoded)
            return encoded

        await peers.serve(self._figures_listeners[OWNER], figures)
        await owner.serve(self._owner_listener)
        lifeline.ready()
        await asked_to_end.wait()
        await owner.forsaken()
        await retention.stop()
        await growth.stop()
        await owner.stop()
        peers.stop()
        await log.close()
