"""A TCP proxy between a node and PostgreSQL: connections can be cut, stalled and healed."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import make_url


class Proxy:
    """Passes bytes on between clients that connect to `port` and a database server.

    It has four states. If it is healthy, everything passes. If it is stalled, connections stay open and new ones are
    accepted, but nothing passes until it is healed. If it is mute, what clients send passes, but answers do not. If it
    is cut, open and new connections are reset.
    """

    def __init__(self, database_url: str) -> None:
        self._database = make_url(database_url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._answering = asyncio.Event()
        self._answering.set()
        self._refusing = False
        self.port = 0
        self.accepted = 0
        """How many connections were accepted so far."""

    @property
    def url(self) -> str:
        """The database's URL through this proxy."""
        url = self._database.set(host="127.0.0.1", port=self.port).difference_update_query(["host", "port"])
        return url.render_as_string(hide_password=False)

    def stall(self) -> None:
        """Lets nothing pass any more in either direction, without any notice."""
        self._flowing.clear()

    def mute(self) -> None:
        """Lets no answers pass any more, without any notice."""
        self._answering.clear()

    def cut(self) -> None:
        """Resets every connection, also new ones."""
        self._refusing = True
        self.reset()

    def reset(self) -> None:
        """Resets every connection. New ones are accepted."""
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()

    def heal(self) -> None:
        """Lets everything pass again."""
        self._refusing = False
        self._flowing.set()
        self._answering.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        self.accepted += 1
        try:
            if not self._refusing:
                await self._flowing.wait()
                await self._pass(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            self._writers.discard(writer)
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        directory = self._database.query.get("host")
        if isinstance(directory, str):
            path = Path(directory) / f".s.PGSQL.{self._database.port or 5432}"
            upstream_reader, upstream = await asyncio.open_unix_connection(path)
        else:
            host, port = self._database.host or "localhost", self._database.port or 5432
            upstream_reader, upstream = await asyncio.open_connection(host, port)
        self._writers.add(upstream)
        try:
            there = asyncio.create_task(self._pump(reader, upstream, self._flowing))
            back = asyncio.create_task(self._pump(upstream_reader, writer, self._answering))
            try:
                await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            finally:
                there.cancel()
                back.cancel()
                await asyncio.gather(there, back, return_exceptions=True)
        finally:
            upstream.transport.abort()
            self._writers.discard(upstream)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                await passing.wait()
                writer.write(data)
                await writer.drain()

    async def close(self) -> None:
        self.reset()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def proxied(database_url: str) -> AsyncIterator[Proxy]:
    """A healthy proxy to the database of `database_url`, on a free port of the loopback."""
    proxy = Proxy(database_url)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.close()
