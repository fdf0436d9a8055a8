"""Shared reads of heads: clients that all come at once cost the log a few queries, not one each."""

import asyncio
import contextvars
import logging

from errors import LogDamaged, Unavailable
from message_log.protocol import EntryLog

logger = logging.getLogger(__name__)

HEADS_PER_QUERY = 10_000


class HeadReader:
    """Reads the heads of channels from the log, one query at a time.

    Whoever asks while a query is under way, for any channel, shares the next one.
    """

    def __init__(self, log: EntryLog) -> None:
        self._log = log
        self._waiting: dict[str, asyncio.Future[int]] = {}
        """By channel: those who asked since the newest query began."""
        self._reading: asyncio.Task[None] | None = None

    async def read(self, channel_id: str) -> int:
        """The head as the log has it now; 0 for a channel without an entry.

        Raises:
            Unavailable: the log cannot tell now, or the reader was closed.
            LogDamaged: the head cannot be read.
        """
        future = self._waiting.get(channel_id)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._waiting[channel_id] = loop.create_future()
            if self._reading is None:
                self._reading = loop.create_task(self._read_waiting(), context=contextvars.Context())
        return await asyncio.shield(future)

    async def close(self) -> None:
        """Ends the query under way. Those who wait are told that the log is unavailable."""
        reading = self._reading
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        for future in self._waiting.values():
            future.set_exception(Unavailable())
            future.exception()
        self._waiting.clear()

    async def _read_waiting(self) -> None:
        try:
            while self._waiting:
                # Taken before the query begins: whoever asks later must not get an earlier head.
                taken = list(self._waiting)[:HEADS_PER_QUERY]
                await self._answer({channel_id: self._waiting.pop(channel_id) for channel_id in taken})
        finally:
            self._reading = None

    async def _answer(self, waiting: dict[str, asyncio.Future[int]]) -> None:
        try:
            heads = await self._log.last_sequences(list(waiting))
        except BaseException as error:
            if isinstance(error, LogDamaged) and len(waiting) > 1:
                # One by one: the damage is at the place of one of them.
                for channel_id, future in waiting.items():
                    await self._answer({channel_id: future})
                return
            for future in waiting.values():
                if not future.done():
                    future.set_exception(error if isinstance(error, Unavailable | LogDamaged) else Unavailable())
                    future.exception()
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, Unavailable | LogDamaged):
                logger.exception("the heads of channels could not be read")
            return
        for channel_id, future in waiting.items():
            if not future.done():
                future.set_result(heads.get(channel_id, 0))
