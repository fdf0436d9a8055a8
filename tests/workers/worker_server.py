"""A server with workers as an operator sees it: its processes, and what happens to them."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.engine.engine_server import EngineServer


def comm(pid: int) -> str:
    """The name of a process. Empty if it has ended or is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    name, _, rest = text.partition("(")[2].rpartition(")")
    return "" if rest.split()[0] == "Z" else name


async def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


class WorkerServer(EngineServer):
    """A server with `workers` workers. `pid` is the supervisor's."""

    def __init__(self, directory: Path, *, workers: int = 2, **options: Any) -> None:
        super().__init__(directory, workers=workers, **options)
        self.workers = workers

    async def __aenter__(self) -> "WorkerServer":
        await super().__aenter__()
        await self.complete()
        return self

    async def complete(self) -> None:
        """Returns when the supervisor has said that all processes are ready."""
        await until(lambda: self.log().count("RAQCOON listens") + self.log().count('"listening"') > 0)

    def children(self) -> dict[str, int]:
        """The supervisor's processes by name: `owner`, `w1`, …"""
        text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        named = {comm(int(pid)).removeprefix("raqcoon "): int(pid) for pid in text.split()}
        named.pop("", None)
        return named

    def signal(self, name: str, number: signal.Signals) -> int:
        """Sends a signal to one of them, and returns its pid."""
        pid = self.children()[name]
        os.kill(pid, number)
        return pid

    async def again(self, name: str, but: int) -> int:
        """The pid of the process that has replaced the process `but`."""
        await until(lambda: self.children().get(name, but) != but)
        return self.children()[name]

    def client(self) -> httpx.AsyncClient:
        """A client with one connection, which it keeps."""
        limits = httpx.Limits(max_connections=1, keepalive_expiry=None)
        return httpx.AsyncClient(base_url=self.url, timeout=30, limits=limits)

    async def worker_of(self, client: httpx.AsyncClient) -> str:
        """The worker that a client's connection is at: the part that all its request ids have in common."""
        return (await client.get("/healthz")).headers["x-request-id"].partition("-")[0]

    async def at_each(self) -> list[httpx.AsyncClient]:
        """Clients with open connections, one at each worker."""
        found: dict[str, httpx.AsyncClient] = {}
        for _ in range(200):
            client = self.client()
            worker = await self.worker_of(client)
            if worker in found:
                await client.aclose()
            else:
                found[worker] = client
            if len(found) == self.workers:
                return list(found.values())
        raise AssertionError(f"200 connections are all at {len(found)} of {self.workers} workers")
