"""One client as a separate process, and what it reports."""

import asyncio
import json
import os
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests import node
from tests.clients.workspace import NODE_FLAGS

NODE_CLIENTS = (
    "apollo-websocket",
    "apollo-multipart",
    "urql-websocket",
    "urql-sse",
    "graphql-sse",
    "event-source",
)
OTHER_CLIENTS = ("gql", "websocket", "curl")
CLIENTS = tuple(name for name in (*NODE_CLIENTS, *OTHER_CLIENTS) if name != "curl" or shutil.which("curl"))
"""Clients that this machine must have already. All others can be installed."""


class ClientProcess:
    """A running client. `cells` has the outcomes of requests, and `received` what came in each channel, in order."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, errors: Path) -> None:
        self.name = name
        self.cells: dict[str, Any] = {}
        self.received: dict[str, list[tuple[int, str]]] = defaultdict(list)
        self._process = process
        self._errors = errors
        self._gone = False
        self._changed = asyncio.Condition()
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, name: str, work: dict[str, Any], workspace: Path) -> "ClientProcess":
        """Starts the client in its own process group, because curl has child processes."""
        command: Sequence[str] = (sys.executable, "-m", "tests.clients.programs")
        if name in NODE_CLIENTS:
            command = ("node", *NODE_FLAGS, str(workspace / "client.mjs"))
        errors = workspace / f"{name}.log"
        with errors.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                name,
                json.dumps(work),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=node.REPOSITORY,
                env=node.environment(),
                start_new_session=True,
            )
        return cls(name, process, errors)

    async def until_cells(self, count: int) -> None:
        """Waits for the outcomes of this many requests."""
        await self._until(lambda: len(self.cells) >= count)

    async def until_received(self, channel: str, count: int) -> None:
        """Waits for this many messages of a channel."""
        await self._until(lambda: len(self.received[channel]) >= count)

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the client and its children. SIGSTOP acts like a browser tab that hangs."""
        os.killpg(self._process.pid, number)

    async def end(self) -> None:
        """Ends the client. Afterwards everything that it has printed is read."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(10):
                await self._reading
        except TimeoutError:
            self.signal(signal.SIGKILL)
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            said = json.loads(line)
            async with self._changed:
                if "cell" in said:
                    self.cells[said["cell"]] = said["value"]
                else:
                    self.received[said["channel"]].append((said["sequence"], said["content"]))
                self._changed.notify_all()
        async with self._changed:
            self._gone = True
            self._changed.notify_all()

    async def _until(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: condition() or self._gone)
        assert condition(), f"{self.name} ended by itself\n{self._errors.read_text()}"
