"""How long one step keeps the event loop from everything else. It is CPU time, so other programs do not count."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STANDSTILL_SECONDS_MAX = 0.05
"""The longest step that anything that one client sends may cause."""


class Watch:
    """Looks at the clock in every round of the loop."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0

    async def _run(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest_seconds = max(self.longest_seconds, now - last)
            last = now


@asynccontextmanager
async def watching() -> AsyncIterator[Watch]:
    """Watches the loop until the end of the `with` block.

    Python's garbage collector is off in that time. After a few thousand tests in one process a full collection takes a
    third of a second, and most of that is not caused by the watched client.
    """
    gc.collect()
    gc.disable()
    watch = Watch()
    task = asyncio.create_task(watch._run())
    await asyncio.sleep(0)
    try:
        yield watch
    finally:
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        gc.enable()
