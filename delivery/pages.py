"""Shared reads of the log: however many subscribers catch up at the same time, each stretch is read about once."""

import asyncio
import contextvars
from collections.abc import Sequence
from typing import Any

from cachetools import LRUCache

from delivery.restating import Places
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
"""Memory for pages that are kept for others. When an entry is stated anew, its page is dropped."""
RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Waits between reads of a log that does not answer; the last one repeats."""
NEWS_CHANNELS = 64
"""Channels that one query reads: a bound on what it returns."""


async def pause_before_retry(failures: int) -> None:
    """Waits before a log that has not answered is read again, after `failures` such waits in a row."""
    await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])


def _run_bytes(run: Sequence[Entry]) -> int:
    return sum(map(size_bytes, run)) + 64


Key = tuple[str, int]
"""Channel and the position that a read begins after."""


class _Pages(LRUCache[Key, Sequence[Entry]]):
    """Pages, and a list of them by channel."""

    def __init__(self, cache_bytes: int) -> None:
        super().__init__(cache_bytes, getsizeof=_run_bytes)
        self.by_channel: dict[str, set[int]] = {}

    def __setitem__(self, key: Key, run: Sequence[Entry]) -> None:
        super().__setitem__(key, run)
        if key in self:  # One that is larger than the cache is not kept.
            self.by_channel.setdefault(key[0], set()).add(key[1])

    def __delitem__(self, key: Key) -> None:
        super().__delitem__(key)
        starts = self.by_channel[key[0]]
        starts.discard(key[1])
        if not starts:
            del self.by_channel[key[0]]


class PageReader:
    """Reads stretches of channels from the log: one read, many waiters, and a bounded cache behind them."""

    def __init__(self, log: EntryLog, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._log = log
        self._cache = _Pages(cache_bytes)
        self._reads: dict[Key, asyncio.Task[Sequence[Entry]]] = {}
        self._abandoned: set[asyncio.Task[Sequence[Entry]]] = set()
        """Reads that began before what they read was stated anew: for those who wait already."""
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

    @property
    def channels(self) -> list[str]:
        """The channels of which pages are kept or being read."""
        return list({*self._cache.by_channel, *(channel_id for channel_id, _ in self._reads)})

    def restate(self, channel_id: str, places: Places) -> None:
        """Drops what is kept of entries that were stated anew. Reads under way are not shared any more: whoever asks
        from now on gets a read that begins later than this."""
        for start in list(self._cache.by_channel.get(channel_id, ())):
            run = self._cache[channel_id, start]
            if places is None or any(run[0].sequence <= place <= run[-1].sequence for place in places):
                del self._cache[channel_id, start]
        for key in [key for key in self._reads if key[0] == channel_id]:
            self._abandoned.add(self._reads.pop(key))

    async def news(self, channel_id: str, position: int) -> Sequence[Entry]:
        """What follows `position`, as `after` returns it, but always from a query that begins after this call.

        Whoever asks while a query is under way shares the next one: if many channels have news, one query reads them
        all. The delivery task of a channel asks, so of each channel there is one call at a time.
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

    async def _read(self, key: Key, channel_id: str, start: int) -> Sequence[Entry]:
        task = self._reads.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(
                self._log.read(channel_id, after=start, limit=PAGE_ENTRIES, max_bytes=READ_BYTES)
            )
            self.reads += 1
            self._reads[key] = task
            task.add_done_callback(lambda done: self._keep(key, done))
        # When one waiter is cancelled, the read has to go on for the others.
        return await asyncio.shield(task)

    def _keep(self, key: Key, task: asyncio.Task[Sequence[Entry]]) -> None:
        if task in self._abandoned:
            self._abandoned.discard(task)
            if not task.cancelled():
                task.exception()
            return
        del self._reads[key]
        if task.cancelled() or task.exception() is not None:
            return
        if run := task.result():
            self._cache[key] = run

    async def close(self) -> None:
        """Cancels the reads under way."""
        reads: list[asyncio.Task[Any]] = [*self._reads.values(), *self._abandoned]
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
