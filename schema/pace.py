"""Work in small steps: everybody else gets a turn of the event loop between them, and what it took is known."""

import asyncio
import time

STEP_SECONDS = 0.0005
"""After so long without a break the loop is let go. A step may take as long again."""


class Pace:
    """Of one operation. `busy_seconds` is how long it has kept the loop, without what it waited for."""

    __slots__ = ("_since", "busy_seconds")

    def __init__(self) -> None:
        self.busy_seconds = 0.0
        self._since = time.perf_counter()

    def stop(self) -> None:
        """From here on the operation waits."""
        self.busy_seconds += time.perf_counter() - self._since

    def go(self) -> None:
        """It goes on."""
        self._since = time.perf_counter()

    async def breathe(self) -> None:
        """Lets the loop go when this step has lasted long enough."""
        if time.perf_counter() - self._since > STEP_SECONDS:
            self.stop()
            await asyncio.sleep(0)
            self.go()
