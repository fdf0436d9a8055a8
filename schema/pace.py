"""Work in small steps: others can use the event loop between them, and the time that the work took is measured."""

import asyncio
import time

STEP_SECONDS = 0.0005
"""After so long without a break the event loop is given to others. A step may take as long again."""


class Pace:
    """The pace of one operation. `busy_seconds` is how much processor time it has used on the event loop, without the
    times of waiting.

    It is the thread's own time and not that of a clock: while other processes have the processor, or another thread
    the interpreter, an operation may stand still for long and is none the more expensive.
    """

    __slots__ = ("_since", "_used", "busy_seconds")

    def __init__(self) -> None:
        self.busy_seconds = 0.0
        self.go()

    def stop(self) -> None:
        """The operation begins to wait."""
        self.busy_seconds += time.thread_time() - self._used

    def go(self) -> None:
        """The operation begins, or has waited and goes on."""
        self._since = time.perf_counter()
        self._used = time.thread_time()

    async def breathe(self) -> None:
        """Gives the event loop to others when this step has lasted long enough."""
        if time.perf_counter() - self._since > STEP_SECONDS:
            self.stop()
            await asyncio.sleep(0)
            self.go()
