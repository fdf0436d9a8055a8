"""A lock with a bound on how many wait for it."""

import asyncio
from types import TracebackType

from errors import Unavailable


class TakingTurns:
    """To be used with `async with`. Whoever comes while `waiting_max` others wait or work gets `Unavailable`."""

    def __init__(self, waiting_max: int) -> None:
        self._lock = asyncio.Lock()
        self._waiting_max = waiting_max
        self._inside = 0

    async def __aenter__(self) -> None:
        if self._inside >= self._waiting_max:
            raise Unavailable(f"{self._inside} changes of this kind wait already; nothing was done.")
        self._inside += 1
        try:
            await self._lock.acquire()
        except BaseException:
            self._inside -= 1
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inside -= 1
        self._lock.release()
