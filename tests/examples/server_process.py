"""The server as its own process, on a port and a database that outlive kill -9."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import httpx

REPOSITORY = Path(__file__).parent.parent.parent
START_SECONDS = 20.0


class ServerProcess:
    """Starts, kills and restarts `server.py`; `url` stays the same."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Returns once the server answers."""
        variables = {
            "RAQCOON_PORT": str(self._port),
            "RAQCOON_DATABASE_URL": f"sqlite:///{self._directory}/raqcoon.db",
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(REPOSITORY / "server.py"),
            env={**os.environ, **variables},
            cwd=REPOSITORY,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(START_SECONDS), httpx.AsyncClient() as client:
            while True:
                assert self._process.returncode is None, "the server ended by itself"
                try:
                    (await client.get(f"{self.url}/api/health")).raise_for_status()
                    return
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        """kill -9, and waits until it is gone."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGKILL)
            await self._process.wait()
