"""Work that occupies the event loop, done one piece at a time."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from resolvers.fair_queue import NOBODY, Client, FairQueue


class Turn:
    """One piece of work. `took_seconds` may be set to how long it has occupied the event loop; otherwise its whole time
    counts."""

    took_seconds: float | None = None


class Turns:
    """Runs pieces of work one after the other, with breaks between them, however many ask at the same time.

    After a piece that took the time t, the next one waits `BREAKS` times t. So all of them together leave most of the
    event loop's time to everybody else. After a while without work nobody waits. Clients take turns (`FairQueue`): one
    that has much to do waits for itself.
    """

    BREAKS = 3.0
    BREAK_SECONDS_MAX = 0.2

    def __init__(self) -> None:
        self._queue = FairQueue(1, 1)

    @asynccontextmanager
    async def turn(self, client: Client = NOBODY) -> AsyncIterator[Turn]:
        """The time in which this client's piece of work may be done."""
        await self._queue.enter(client)
        # Not the loop's clock: that of uvloop does not move while a callback runs.
        began_at = time.perf_counter()
        turn = Turn()
        try:
            yield turn
        finally:
            took_seconds = time.perf_counter() - began_at if turn.took_seconds is None else turn.took_seconds
            break_seconds = min(took_seconds * self.BREAKS, self.BREAK_SECONDS_MAX)
            asyncio.get_running_loop().call_later(break_seconds, self._queue.leave, client)
