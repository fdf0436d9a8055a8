"""How long one step keeps the event loop from everything else. It is CPU time, so other programs do not count."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

STANDSTILL_SECONDS_MAX = 0.05
"""The longest step that anything that one client sends may cause, on a machine that does `_work` in
`_WORK_SECONDS`."""
_WORK_SECONDS = 0.004
_WORK_ROUNDS = 10_000


def _work() -> None:
    counts: dict[str, int] = {}
    for number in range(_WORK_ROUNDS):
        text = f"{number}:{number + 1}"
        counts[text[:2]] = counts.get(text[:2], 0) + len(text)


def slowness() -> float:
    """How many times as long as expected this machine takes for plain Python at the moment, at least 1.

    The cores of a virtual machine become slower for a while when its host is busy. CPU time does not show that.
    """
    took = []
    for _ in range(3):
        began = time.thread_time()
        _work()
        took.append(time.thread_time() - began)
    return max(1.0, min(took) / _WORK_SECONDS)


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
