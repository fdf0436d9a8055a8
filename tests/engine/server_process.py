"""The whole server as its own process, seen as an operator sees it: its memory, its metrics, its sockets."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from benchmarks.machine import anonymous_bytes
from tests.engine.client import Client

REPOSITORY = Path(__file__).parent.parent.parent
START_SECONDS = 50.0
_SAMPLE = re.compile(r'^(\w+)(?:\{(\w+)="([^"]*)"\})? (\S+)$', re.M)


class EngineServer:
    """`server.py`, or what `command` names, with its own log. `settings` are `RAQCOON_*` in lower case, unprefixed."""

    def __init__(self, directory: Path, *, command: Sequence[str] = ("server.py",), **settings: object) -> None:
        self._directory = directory
        self._command = [sys.executable, *command]
        self._settings = {"log_level": "info", **settings}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: asyncio.subprocess.Process | None = None
        self.http = httpx.AsyncClient(base_url=self.url, timeout=30)

    async def __aenter__(self) -> "EngineServer":
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.http.aclose()
        await self.kill()

    async def start(self) -> None:
        """Starts the process, on the same port and log as before, and returns once it answers."""
        variables = {f"RAQCOON_{name.upper()}": str(value) for name, value in self._settings.items()}
        with (self._directory / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env={
                    **os.environ,
                    "PYTHONPATH": str(REPOSITORY),
                    "RAQCOON_PORT": str(self.port),
                    "RAQCOON_DATABASE_URL": f"sqlite:///{self._directory}/raqcoon.db",
                    **variables,
                },
                cwd=REPOSITORY,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
            )
        async with asyncio.timeout(START_SECONDS):
            while True:
                assert self._process.returncode is None, f"the server ended by itself\n{self.log()}"
                try:
                    (await self.http.get("/healthz")).raise_for_status()
                    return
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)

    async def kill(self, number: int = signal.SIGKILL) -> int:
        """Sends the signal, waits for the end and returns the exit code."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(number)
        return await self._process.wait()

    def log(self) -> str:
        """Everything the server wrote to standard error."""
        return (self._directory / "server.log").read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def memory_bytes(self) -> int:
        """What the process has allocated."""
        return anonymous_bytes(self.pid)

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    async def metrics(self) -> dict[str, float]:
        """The samples of `/metrics`: by name, with a label by `name{value}`."""
        text = (await self.http.get("/metrics")).raise_for_status().text
        return {
            f"{name}{{{value}}}" if label else name: float(number)
            for name, label, value, number in _SAMPLE.findall(text)
        }

    async def until(self, condition: Callable[[dict[str, float]], bool], seconds: float = 30) -> dict[str, float]:
        """The metrics, once they fulfil the condition."""
        seen: dict[str, float] = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    seen = await self.metrics()
                    if condition(seen):
                        return seen
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s; the server says {seen}\n{self.log()[-3000:]}") from None

    async def until_empty(self, subscribers: int = 0) -> dict[str, float]:
        """Waits until nobody is connected and nothing of them is left, but for `subscribers` of a probe."""
        return await self.until(
            lambda seen: (
                sum(value for name, value in seen.items() if name.startswith("raqcoon_connections{")) == subscribers
                and seen["raqcoon_subscribers"] == subscribers
                and seen["raqcoon_cohorts"] <= subscribers
                and seen["raqcoon_catch_ups"] == 0
            )
        )

    async def post(self, content: str, channel: str = "general", author: str = "ann") -> dict[str, Any]:
        """Posts over REST and returns the item."""
        body = {"channel_id": channel, "author": author, "content": content}
        answer = (await self.http.post("/api/messages", json=body)).raise_for_status().json()
        item: dict[str, Any] = answer["message"]
        return item

    async def post_many(self, count: int, *, content: Callable[[int], str], channel: str = "general") -> None:
        """Posts `content(1…count)` in order of their numbers over one socket's worth of pipelining."""
        await post_in_order(self.port, count, content, channel)


MUTATION = """mutation ($channel: ID!, $content: String!) {
  postMessage(channelId: $channel, author: "ann", content: $content) { sequence }
}"""


async def post_in_order(port: int, count: int, content: Callable[[int], str], channel: str) -> None:
    """Posts over one graphql-transport-ws socket, several at a time; the server begins them in order."""
    async with await Client.open(port) as client:
        for start in range(1, count + 1, 32):
            numbers = range(start, min(start + 32, count + 1))
            await client.send(
                *(client.operation(f"{n}", MUTATION, channel=channel, content=content(n)) for n in numbers)
            )
            done = 0
            while done < len(numbers):
                frame = await client.next_frame()
                assert "errors" not in frame.get("payload", {}), frame
                done += frame["type"] == "complete"
