"""Work that holds the event loop, done one piece at a time."""

import asyncio
import time
from types import TracebackType


class Turns:
    """Lets pieces of work happen one after the other, with breaks between them, however many ask at once.

    After a piece that took t the next one waits `BREAKS` times t, so that all of them together leave most of the loop
    to everybody else. Whoever comes after a while without work does not wait. Turns are taken in the order of asking.
    """

    BREAKS = 3.0
    BREAK_SECONDS_MAX = 0.2

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._began_at = 0.0

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        self._began_at = time.perf_counter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Not the loop's clock: uvloop's stands still while a callback runs.
        took_seconds = time.perf_counter() - self._began_at
        break_seconds = min(took_seconds * self.BREAKS, self.BREAK_SECONDS_MAX)
        asyncio.get_running_loop().call_later(break_seconds, self._lock.release)
