"""A server process on a port that outlives it: started, stopped, killed and started again."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from benchmarks.machine import anonymous_bytes

REPOSITORY = Path(__file__).parent.parent.parent
START_SECONDS = 100.0


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NodeFailed(Exception):
    """Raised when a node ended by itself or does not answer in time; its last words are in the text."""


class Node:
    """One `server.py` (or another `command` that takes the same settings) with a log file of its output."""

    def __init__(
        self,
        name: str,
        database_url: str,
        directory: Path,
        *,
        settings: Mapping[str, str] | None = None,
        command: Sequence[str] = (str(REPOSITORY / "server.py"),),
    ) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket_url = f"ws://127.0.0.1:{self.port}/graphql"
        self.output = directory / f"{name}.log"
        self._command = command
        self._environment = {key: value for key, value in os.environ.items() if not key.startswith("RAQCOON_")}
        self._environment |= {
            "RAQCOON_PORT": str(self.port),
            "RAQCOON_DATABASE_URL": database_url,
            "PYTHONPATH": str(REPOSITORY),
            **(settings or {}),
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    def memory_bytes(self) -> int:
        """What the process has allocated."""
        return anonymous_bytes(self.pid)

    async def launch(self) -> None:
        """Starts the process and returns at once."""
        with self.output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self._command, env=self._environment, stdout=output, stderr=output
            )

    async def listening(self) -> None:
        """Returns once it answers.

        Raises:
            NodeFailed: it ended, or does not answer within `START_SECONDS`.
        """
        give_up = asyncio.get_running_loop().time() + START_SECONDS
        async with httpx.AsyncClient() as client:
            while True:
                try:
                    (await client.get(f"{self.url}/healthz")).raise_for_status()
                    return
                except httpx.HTTPError:
                    late = asyncio.get_running_loop().time() > give_up
                    if late or not self.running:
                        raise NodeFailed(f"{self.name}: {self.output.read_text()[-3000:]}") from None
                    await asyncio.sleep(0.05)

    async def start(self) -> None:
        """`launch`, then `listening`."""
        await self.launch()
        await self.listening()

    async def kill(self) -> None:
        """kill -9, and waits until it is gone."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        await self.gone()

    async def gone(self) -> int:
        """Waits for the end of the process and returns its exit code."""
        assert self._process is not None
        return await self._process.wait()

    def terminate(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)

    async def restart(self) -> int:
        """SIGTERM, waits for the end, starts again; returns the exit code of the one that ended."""
        self.terminate()
        code = await self.gone()
        await self.start()
        return code


@asynccontextmanager
async def running(*nodes: Node) -> AsyncIterator[None]:
    """Starts nodes together, and kills what is left of them afterwards."""
    try:
        for node in nodes:
            await node.launch()
        for node in nodes:
            await node.listening()
        yield
    finally:
        for node in nodes:
            if node.running:
                await node.kill()
