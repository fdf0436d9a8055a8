"""Shared reads of the log: however many subscribers catch up at once, each stretch is read about once."""

import asyncio
import contextvars
from collections.abc import Hashable, Sequence
from typing import Any

from cachetools import LRUCache

from delivery.tail import cut_page, size_bytes
from errors import Unavailable
from message_log.protocol import Entry, EntryLog

PAGE_ENTRIES = 256
"""Entries of one read. Reads begin at multiples of it, so clients with different cursors ask for the same pages."""
PAGE_BYTES = 64 * 1024
"""Contents of one page handed to a subscriber: as much as a socket's write buffer takes before it pauses."""
ALIGNMENTS = (PAGE_ENTRIES, 16)
READ_BYTES = 4 * PAGE_BYTES
"""Contents of one read of the log."""
CACHE_BYTES = 32 * 1024 * 1024
"""Pages kept for those who come next. Messages are immutable, so a kept page is never wrong."""


NEWS_CHANNELS = 64
"""Channels that one query reads on in: a bound on what it returns."""


def _run_bytes(run: Sequence[Entry]) -> int:
    return sum(map(size_bytes, run)) + 64


class PageReader:
    """Reads stretches of channels from the log: one read, many waiters, and a bounded cache behind them."""

    def __init__(self, log: EntryLog, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._log = log
        self._cache: LRUCache[Hashable, Sequence[Entry]] = LRUCache(cache_bytes, getsizeof=_run_bytes)
        self._reads: dict[Hashable, asyncio.Task[Sequence[Entry]]] = {}
        self._news: dict[asyncio.Future[Sequence[Entry]], tuple[str, int]] = {}
        self._news_task: asyncio.Task[None] | None = None
        self.reads = 0
        """Reads of the log so far."""

    async def after(self, channel_id: str, position: int) -> Sequence[Entry]:
        """What follows `position` in the log, ascending, about `PAGE_BYTES`; empty when nothing does.

        The first entry's sequence is above `position` + 1 when retention has removed what lies between.

        Raises:
            Unavailable: the log cannot answer now.
        """
        # Coarse first, so that many share; finer where contents are so long that a read ends before the position.
        # Twice at the position itself: the first of them may join a read that began before the newest commit.
        for start in (*dict.fromkeys(position - position % step for step in ALIGNMENTS), position, position):
            key = (channel_id, start)
            run = self._cache.get(key)
            if run is None or not (_reaches(run, position) or _is_cut(run)):
                run = await self._read(key, channel_id, start)
            if _reaches(run, position):
                index = max(0, position + 1 - run[0].sequence)
                return cut_page(run, start=index, stop=len(run), max_bytes=PAGE_BYTES)
        return []

    async def news(self, channel_id: str, position: int) -> Sequence[Entry]:
        """What follows `position`, by a query that begins after this call; else as `after`.

        Whoever asks while a query is under way shares the next one: where many channels have news, one query reads
        them. A channel's delivery asks, so each channel has one asker at a time.
        """
        future: asyncio.Future[Sequence[Entry]] = asyncio.get_running_loop().create_future()
        self._news[future] = (channel_id, position)
        if self._news_task is None:
            self._news_task = asyncio.get_running_loop().create_task(self._read_news(), context=contextvars.Context())
        try:
            return await future
        finally:
            self._news.pop(future, None)

    async def _read_news(self) -> None:
        try:
            while self._news:
                waiting: dict[str, asyncio.Future[Sequence[Entry]]] = {}
                positions: dict[str, int] = {}
                for future, (channel_id, position) in list(self._news.items()):
                    # A channel that was closed and opened again may ask twice.
                    if channel_id not in waiting and len(waiting) < NEWS_CHANNELS:
                        del self._news[future]
                        waiting[channel_id], positions[channel_id] = future, position
                self.reads += 1
                await self._answer(waiting, positions)
        finally:
            self._news_task = None

    async def _answer(self, waiting: dict[str, asyncio.Future[Sequence[Entry]]], positions: dict[str, int]) -> None:
        try:
            found = await self._log.read_many(positions, limit=PAGE_ENTRIES, max_bytes=PAGE_BYTES)
        except BaseException as error:
            for future in waiting.values():
                if not future.done():
                    future.set_exception(error if isinstance(error, Exception) else Unavailable())
                    future.exception()
            if not isinstance(error, Exception):
                raise
            return
        for channel_id, future in waiting.items():
            if not future.done():
                future.set_result(found.get(channel_id, ()))

    async def _read(self, key: Hashable, channel_id: str, start: int) -> Sequence[Entry]:
        task = self._reads.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(
                self._log.read(channel_id, after=start, limit=PAGE_ENTRIES, max_bytes=READ_BYTES)
            )
            self.reads += 1
            self._reads[key] = task
            task.add_done_callback(lambda done: self._keep(key, done))
        # One waiter that goes away must not take the read from the others.
        return await asyncio.shield(task)

    def _keep(self, key: Hashable, task: asyncio.Task[Sequence[Entry]]) -> None:
        del self._reads[key]
        if task.cancelled() or task.exception() is not None:
            return
        if run := task.result():
            self._cache[key] = run

    async def close(self) -> None:
        """Cancels the reads under way."""
        reads: list[asyncio.Task[Any]] = list(self._reads.values())
        if self._news_task is not None:
            reads.append(self._news_task)
        for task in reads:
            task.cancel()
        await asyncio.gather(*reads, return_exceptions=True)
        self._cache.clear()


def _is_cut(run: Sequence[Entry]) -> bool:
    """Whether a read ended because it was full, so that reading it again would show nothing more."""
    return len(run) >= PAGE_ENTRIES or sum(entry.text_bytes for entry in run) > READ_BYTES


def _reaches(run: Sequence[Entry], position: int) -> bool:
    return bool(run) and run[-1].sequence > position
