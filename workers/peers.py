"""How the processes of one server ask each other for their figures: each has a Unix socket in the server's directory.

Whoever connects is sent the figures, and then the connection ends. This room passes them on as bytes.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable

from workers.board import Board
from workers.owner import of_this_user

logger = logging.getLogger("raqcoon.workers")

ANSWER_SECONDS = 1.0
"""How long a scrape waits for a process that is busy or stopped, before it is named as missing."""


class Peers:
    """The other processes, as one of them sees them.

    Args:
        paths: the sockets of all processes, by name. This process does not ask its own.
        name: the name of this process.
        board: where figures are kept beyond a process's end, in the order of `paths`.
        workers: how many workers the server has.
        commits_are_told_to_all: whether every worker counts the commits of all.
    """

    def __init__(
        self, paths: dict[str, str], name: str, board: Board, *, workers: int, commits_are_told_to_all: bool
    ) -> None:
        self.workers = workers
        self.commits_are_told_to_all = commits_are_told_to_all
        self._paths = {other: path for other, path in paths.items() if other != name}
        self._places = {other: place for place, other in enumerate(paths)}
        self._place = self._places[name]
        self._board = board
        self._server: asyncio.AbstractServer | None = None

    def earlier(self) -> bytes:
        return self._board.figures(self._place)

    def keep(self, figures: bytes) -> None:
        if not self._board.write_figures(self._place, figures):
            logger.error("figures of %d bytes are too long to be kept", len(figures))

    async def ask(self) -> tuple[list[bytes], dict[str, bytes]]:
        names = list(self._paths)
        answers = await asyncio.gather(*(self._ask(self._paths[name]) for name in names))
        found = [answer for answer in answers if answer is not None]
        missing = {
            name: self._board.figures(self._places[name])
            for name, answer in zip(names, answers, strict=True)
            if answer is None
        }
        return found, missing

    async def serve(self, listener: socket.socket, figures: Callable[[], bytes]) -> None:
        """Answers the others with what `figures` returns, from now on."""

        async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.closing(writer):
                if of_this_user(writer.get_extra_info("socket")):
                    writer.write(figures())

        self._server = await asyncio.start_unix_server(answer, sock=listener)

    def stop(self) -> None:
        """Stops answering."""
        if self._server is not None:
            self._server.close()

    @staticmethod
    async def _ask(path: str) -> bytes | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reader, writer = await asyncio.open_unix_connection(path)
                with contextlib.closing(writer):
                    return await reader.read(-1) or None
        except (OSError, TimeoutError):
            return None
