"""A server as a separate process that can be stopped, killed and started again with the same port and the same log."""

import asyncio
import contextlib
import itertools
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import httpx

from benchmarks.machine import anonymous_bytes

REPOSITORY = Path(__file__).parent.parent
START_SECONDS = 100.0

_FIRST_PORT = 12_000
"""By default the kernel gives ports below 32,768 neither to clients nor to programs that ask for any free port. So no
other program takes the port of a server while the server is down."""
_PORTS_OF_A_PROCESS = 2_000


def _own_ports() -> Iterator[int]:
    """The ports of this process, over and over. Each process of the suite has a range of its own. Another run of the
    suite has the same ranges, so each run begins at another port."""
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
    first = _FIRST_PORT + process * _PORTS_OF_A_PROCESS
    begin = random.randrange(_PORTS_OF_A_PROCESS)
    return (first + number % _PORTS_OF_A_PROCESS for number in itertools.count(begin))


_ports = _own_ports()


def free_port() -> int:
    """A port of the loopback on which nothing listens now. No port is returned twice before all others were."""
    while True:
        port = next(_ports)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class ServerFailed(Exception):
    """Raised when a server ended by itself or does not answer in time. The end of its output is in the text."""


class ServerProcess:
    """`server.py`, or what `command` names. Its log is in SQLite in `directory`, unless `database_url` is given.

    `settings` are `RAQCOON_*` settings in lower case, without the prefix. `environment` has further variables for
    `command`. What the process prints is in `directory`, in a file with the name `name`.
    """

    def __init__(
        self,
        directory: Path,
        name: str = "server",
        *,
        command: Sequence[str] = ("server.py",),
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> None:
        self.name = name
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.socket_url = f"ws://127.0.0.1:{self.port}/graphql"
        self._output = directory / f"{name}.log"
        self._command = command
        settings = {"port": self.port, "database_url": f"sqlite:///{directory}/raqcoon.db", **settings}
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("RAQCOON_")},
            "PYTHONPATH": str(REPOSITORY),
            **{f"RAQCOON_{key.upper()}": str(value) for key, value in settings.items()},
            **(environment or {}),
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def memory_bytes(self) -> int:
        """How much memory the process has allocated."""
        return anonymous_bytes(self.pid)

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def log(self) -> str:
        """Everything that the server has printed, also before it was started again."""
        return self._output.read_text()

    async def launch(self) -> None:
        """Starts the process and returns at once."""
        with self._output.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self._command, cwd=REPOSITORY, env=self._environment, stdout=output, stderr=output
            )

    async def listening(self) -> None:
        """Returns when it answers.

        Raises:
            ServerFailed: it ended, or does not answer within `START_SECONDS`.
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
                        raise ServerFailed(f"{self.name}: {self.log()[-3000:]}") from None
                    await asyncio.sleep(0.05)

    async def start(self) -> None:
        """`launch`, then `listening`."""
        await self.launch()
        await self.listening()

    def terminate(self) -> None:
        """SIGTERM."""
        assert self._process is not None
        self._process.terminate()

    async def gone(self) -> int:
        """Waits until the process has ended, and returns its exit code."""
        assert self._process is not None
        return await self._process.wait()

    async def stop(self) -> int:
        """SIGTERM, then waits for the end. Returns the exit code."""
        self.terminate()
        return await self.gone()

    async def restart(self) -> int:
        """`stop`, then `start`. Returns the exit code of the process that ended."""
        code = await self.stop()
        await self.start()
        return code

    async def freeze(self, seconds: float) -> None:
        """SIGSTOP for this time, then SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """kill -9, then waits until the process has ended. Does nothing if it does not run."""
        if self.running:
            assert self._process is not None
            self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def running(*servers: ServerProcess) -> AsyncIterator[None]:
    """Starts servers at the same time. Afterwards kills those that still run."""
    try:
        for server in servers:
            await server.launch()
        for server in servers:
            await server.listening()
        yield
    finally:
        for server in servers:
            await server.kill()
