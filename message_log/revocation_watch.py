"""Keeps what a process knows about revocations equal to what the log holds."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from errors import Unavailable
from message_log.revocations import RevocationSet
from messages import Revocation

logger = logging.getLogger(__name__)

WATCH_SECONDS = 0.25
"""How often a process checks whether revocations have changed. The promise is that they act everywhere within a
second."""


class RevocationWatch:
    """Checks at an interval, and whenever it is told to, and reports revocations that are newly in force.

    Args:
        version: returns the log's counter of changes, by one cheap query.
        read: returns all revocations, with a version that is not newer than they are.
        known: what this process knows. It is updated here.
        revoked: called on the event loop with what is newly in force. Never raises.
    """

    def __init__(
        self,
        version: Callable[[], Awaitable[int]],
        read: Callable[[], Awaitable[tuple[int, Sequence[Revocation]]]],
        known: RevocationSet,
        revoked: Callable[[Sequence[Revocation]], None],
    ) -> None:
        self._version = version
        self._read = read
        self._known = known
        self._revoked = revoked
        self._seen: int | None = None
        self._looking = asyncio.Lock()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Reads what is in force, before anybody is served, and begins to check for changes.

        Raises:
            Unavailable: the log cannot answer.
        """
        await self.look()
        self._task = asyncio.get_running_loop().create_task(self._watch(), name="raqcoon-revocations")

    def hint(self) -> None:
        """Checks at once: somebody has changed the revocations, or says so."""
        self._news.set()

    async def stop(self) -> None:
        """Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _watch(self) -> None:
        while True:
            try:
                async with asyncio.timeout(WATCH_SECONDS):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            try:
                await self.look()
            except Unavailable:
                continue  # The readers log this themselves. Nothing that was known is forgotten.
            except Exception:
                logger.exception("the revocations could not be read")

    async def look(self) -> None:
        """Reads, and reports, everything that has changed before the call.

        Raises:
            Unavailable: the log cannot answer. The next check will find what was missed.
        """
        async with self._looking:
            if await self._version() == self._seen:
                return
            seen, listed = await self._read()
            self._seen = seen
            if found := self._known.replace(seen, listed):
                self._revoked(found)
