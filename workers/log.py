"""The message log of a worker: it reads the file by itself, and lets the owner write."""

import asyncio
import logging
import signal
from typing import Any, cast

from changes import ChangeDraft
from errors import StartupError, Unavailable
from message_log.draft_text import content_bytes
from message_log.protocol import Appended, LogListener
from message_log.reading import ReadingLog
from message_log.sql import PROBE_SECONDS, SqlMessageLog
from message_log.writer import WriterLimits
from messages import Draft, Revocation
from workers.frames import Hello, NotAFrame, result
from workers.link import Link

logger = logging.getLogger("raqcoon.workers")

START_SECONDS = 60.0
"""How long a worker that starts waits for the owner: it may have a log of millions to migrate."""


class WorkerLog(ReadingLog):
    """Implements `protocol.MessageLog` with the help of a `LogOwner`.

    While the owner is away, appending raises `Unavailable` at once, and reading works as before. What was under way
    when the owner was lost has an unknown outcome: it raises `Unavailable`, and a retry with the same idempotency key
    posts only once.

    Args:
        url: `sqlite:///path`, the file that the owner has.
        socket_path: the owner's Unix socket.
    """

    def __init__(self, url: str, socket_path: str, *, readers: int = 4, limits: WriterLimits | None = None) -> None:
        super().__init__(url, readers=readers, limits=limits)
        self._socket_path = socket_path
        self._link: Link | None = None
        self._listener: LogListener | None = None

    async def open(self, listener: LogListener) -> None:
        if self._link is not None:
            raise RuntimeError("the log is open already")
        self._link = Link(self._socket_path, listener, self._limits, self._greeted, self._look)
        try:
            async with asyncio.timeout(START_SECONDS):
                await self._link.connected.wait()
            await super().open(listener)
            self._listener = listener
        except TimeoutError:
            await self.close()
            raise StartupError("the owner of the message log does not answer") from None
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        if self._link is not None:
            await self._link.close()
            self._link = None
        await super().close()

    async def append(self, draft: Draft) -> Appended:
        return await self._linked().post(draft, content_bytes(draft))

    async def revoke(self, revocation: Revocation) -> None:
        await self._linked().call("revoke", revocation)
        await self._open_parts().watch.look()

    async def restore(self, author: str, channel_id: str | None) -> bool:
        answer = await self._linked().call("restore", author, channel_id)
        await self._open_parts().watch.look()
        return bool(result(SqlMessageLog, "restore", answer))

    async def change(self, draft: ChangeDraft) -> Appended:
        return cast(Appended, await self._of_owner("change", draft))

    async def scrub(self) -> bool:
        return bool(await self._of_owner("scrub"))

    async def take_name(self, author: str, channel_id: str, after: int, until: int) -> int:
        return int(await self._of_owner("take_name", author, channel_id, after, until))

    async def _of_owner(self, method: str, *args: object) -> Any:
        return result(SqlMessageLog, method, await self._linked().call(method, *args))

    async def ready(self) -> bool:
        try:
            answer = await self._linked().call("ready", timeout_seconds=PROBE_SECONDS)
        except Unavailable:
            return False
        return bool(result(SqlMessageLog, "ready", answer))

    def _linked(self) -> Link:
        if self._link is None:
            raise Unavailable("The message log is closed.")
        return self._link

    def _look(self) -> None:
        if self._parts is not None:
            self._parts.watch.hint()

    def _greeted(self, hello: Hello, missed: bool) -> None:
        if self._epoch is not None and hello.epoch != self._epoch:
            # There is another file in the place of ours. Nothing that this process holds belongs to it, so the process
            # has to be started again.
            logger.critical("the message log was replaced; this worker ends")
            signal.raise_signal(signal.SIGTERM)
            raise NotAFrame("it has another log")
        if missed and self._listener is not None:
            # The connection before this one told everything up to its end. What was committed since is in the log.
            self._listener.missed()
