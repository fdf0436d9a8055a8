"""How long the event loop is kept from everything else, as CPU time: what else the machine does does not count."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STANDSTILL_SECONDS_MAX = 0.05
"""What anything that one client sends may keep the loop at most."""


class Watch:
    """Looks in at every round of the loop."""

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
    """Watches the loop until the context is left.

    Python's collector rests meanwhile: after a few thousand tests in one process a full collection takes a third of a
    second, and what it looks at then is not what the watched client has sent.
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
