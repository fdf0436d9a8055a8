"""Starts the `server.py` of a working tree and measures the steps of its event loop, for `benchmarks.pages`.

    python -m benchmarks.watched DIRECTORY/server.py STEPS_FILE

On SIGUSR1 it writes the longest step since the last signal to the file, in milliseconds, and starts again. A step is
one round of the loop, in CPU time of its thread. The measuring runs in every round, so the server never sleeps. So its
total CPU time means nothing here.
"""

import asyncio
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import uvicorn


class Watch:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._longest_seconds = 0.0

    async def run(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self._longest_seconds = max(self._longest_seconds, now - last)
            last = now

    def write(self) -> None:
        whole = self._path.with_suffix(".part")
        whole.write_text(f"{1000 * self._longest_seconds:.3f}")
        os.replace(whole, self._path)
        self._longest_seconds = 0.0


def main() -> None:
    server, steps_file = sys.argv[1:3]
    sys.argv = [server]
    sys.path.insert(0, str(Path(server).parent))
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # Waits until the loop runs.
    watch = Watch(Path(steps_file))
    main_loop = uvicorn.Server.main_loop
    running: set[asyncio.Task[None]] = set()

    async def watched(self: uvicorn.Server) -> None:
        loop = asyncio.get_running_loop()
        running.add(loop.create_task(watch.run()))
        loop.add_signal_handler(signal.SIGUSR1, watch.write)
        await main_loop(self)

    uvicorn.Server.main_loop = watched  # type: ignore[method-assign]
    runpy.run_path(server, run_name="__main__")


if __name__ == "__main__":
    main()
