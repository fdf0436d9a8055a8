"""The inflow of a channel: what is committed after the head, from whatever source, in order and without a gap.

Entries come from commits of this process, from other processes (sometimes late, twice or too early), or not at all. In
the last case a hint or the sweep of heads tells that there are some, and the log is read. The queue is only a shortcut:
whenever it overflows or may be wrong it is emptied, since the log has everything.

What `next` returns begins at `head` + 1 and has no gap. The entries that wait, with those that came too early, are at
most `QUEUE_ENTRIES` and about `QUEUE_BYTES`.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

from delivery.pages import PageReader, pause_before_retry
from delivery.restating import Places, Restated, Watches
from delivery.tail import size_bytes
from errors import Unavailable
from message_log.protocol import Entry

QUEUE_ENTRIES = 4096
"""Committed entries that wait for the delivery task. On overflow the queue is emptied: the log has everything."""
QUEUE_BYTES = 16 * 1024 * 1024
BATCH_BYTES = 256 * 1024
"""Contents of one sweep, so that one busy channel cannot hold the loop or a socket for long."""
BUSY_SECONDS = 0.001
BUSY_SHARE = 0.15
"""A channel is busy, and gathers entries, when its last sweep took longer than `BUSY_SECONDS` and the time since its
end is shorter than that, or shorter than this share of the sweep's time. Then entries come as fast as they are
delivered. A channel that keeps up never waits."""
GATHER_SECONDS_MIN, GATHER_SECONDS_MAX = 0.002, 0.01
"""How long a busy channel waits for more entries to share the next sweep's writes; never longer than the last sweep
took. Most of the cost is in the writes: with 1,000 subscribers and 4 publishers this doubles what is delivered, at a
lower latency. The wait doubles each time it brings something, and falls to the minimum when it brings nothing.
Otherwise a channel whose sweeps take nearly all the time between two entries would fall behind because it waits, and
wait because it is behind."""
GATHER_ENTRIES = 64
"""With this many entries the writes are cheap enough: a sweep does not wait for more."""
EARLY_SECONDS = 0.02
"""How long an entry waits for one before it that has not come yet: hints are gathered for 3 ms, and each process sends
its own. After that the log is read. Only a hint that was lost makes an entry wait so long. A shorter wait would give
nodes that are busy, and therefore late with their hints, even more work with reads. When a hint comes without its
entry, the log is read at once."""


class Inflow:
    """Entries on their way to the delivery task of one channel.

    `exclusive` says that no other process appends to the log: what is missing need not be waited for.
    """

    __slots__ = (
        "_bare",
        "_channel_id",
        "_early",
        "_exclusive",
        "_gather_seconds",
        "_pages",
        "_put_back",
        "_queue",
        "_queue_bytes",
        "_restating",
        "_sweep_seconds",
        "_swept_at",
        "_watches",
        "head",
        "target",
    )

    def __init__(self, channel_id: str, pages: PageReader, watches: Watches, *, exclusive: bool) -> None:
        self.head = 0
        """Sequence up to which entries have been handed to subscribers, or are being handed in this sweep."""
        self.target = 0
        """Highest sequence known to be committed."""
        self._channel_id = channel_id
        self._pages = pages
        self._watches = watches
        self._exclusive = exclusive
        self._queue: asyncio.Queue[Entry | None] = asyncio.Queue(QUEUE_ENTRIES)
        self._queue_bytes = 0
        self._early: dict[int, Entry] = {}
        """Entries that came too early, before one that precedes them; by sequence. `_queue_bytes` counts them too."""
        self._bare = 0
        """Sequence up to which the log must be read: as far as is known, these entries will not come by themselves."""
        self._put_back: Entry | None = None
        """The entry that woke the delivery task and is still to be delivered: an asyncio queue has no way to look at
        its first item without taking it."""
        self._restating: dict[int, list[Restated]] = {}
        """What was stated anew of entries that wait in the queue."""
        self._swept_at = 0.0
        self._sweep_seconds = 0.0
        self._gather_seconds = GATHER_SECONDS_MIN

    def begin(self, head: int) -> None:
        """Starts, or starts again after a failure, from the head that was read from the log."""
        self.head = head
        self.target = max(self.target, head)

    # -- what the log says ------------------------------------------------------------------------------------

    def offer(self, entry: Entry) -> None:
        """Takes an entry that is committed. Those of this process come in commit order; those of others sometimes come
        late, twice or too early."""
        if self._queue.qsize() + len(self._early) >= QUEUE_ENTRIES or self._queue_bytes > QUEUE_BYTES:
            self._empty_queue()
        self._queue.put_nowait(entry)
        self._queue_bytes += size_bytes(entry)
        self.target = max(self.target, entry.sequence)

    def hint(self, sequence: int) -> None:
        """Learns that the channel may have reached `sequence`; the delivery task looks in the log."""
        if sequence > self._bare:
            self._bare = sequence
            self._aim(sequence)

    def expect(self, sequence: int) -> None:
        """As `hint`, but the entries may still come by themselves; the log is read if they do not."""
        if sequence > self.target:
            self._aim(sequence)

    def restate(self, places: Places, restated: Restated) -> None:
        """Entries were stated anew. From this step on none of those that wait is delivered as it was before."""
        if places is None:
            self._empty_queue()
            self._put_back = None
            self._aim(self.target)
        else:
            for place in places:
                if place > self.head:
                    self._restating.setdefault(place, []).append(restated)

    def _aim(self, sequence: int) -> None:
        self.target = max(self.target, sequence)
        if sequence > self.head and self._queue.empty():
            self._queue.put_nowait(None)

    def _empty_queue(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()
        self._early.clear()
        self._queue_bytes = 0
        self._bare = self.target

    # -- what the delivery task takes --------------------------------------------------------------------------

    async def next(self) -> Sequence[Entry]:
        """Everything that waits, from head + 1 on and without a gap, at most about `BATCH_BYTES`.

        This does not move the head: the caller calls `taken` in the step in which this returns.

        Raises:
            LogDamaged: what comes next cannot be read.
        """
        failures = 0
        wait_until: float | None = None
        while True:
            if self._queue.empty() and self.target <= self.head:
                self._put_back = await self._queue.get()
            if self._put_back is not None or self._early or not self._queue.empty():
                await self._gather()
                run = self._drain()
                if run:
                    return run
            if self.target > self.head and self._queue.empty():
                if not self._exclusive and self._bare <= self.head:
                    now = time.perf_counter()
                    wait_until = now + EARLY_SECONDS if wait_until is None else wait_until
                    if now < wait_until:
                        with suppress(TimeoutError):
                            async with asyncio.timeout(wait_until - now):
                                self._put_back = await self._queue.get()
                        continue
                self._empty_queue()  # The log also has what came too early.
                try:
                    with self._watches.watching() as watch:
                        page = watch.apply(await self._pages.news(self._channel_id, self.head))
                except Unavailable:
                    await pause_before_retry(failures)
                    failures += 1
                    continue
                if page is None:
                    continue
                if page:
                    # The page begins above head + 1 if retention has removed what follows the head.
                    self.head = page[0].sequence - 1
                    return page
                if self._queue.empty():
                    # There is nothing: the hint was wrong. If it only came too early, the sweep of heads will tell.
                    self.target = self._bare = self.head

    async def _gather(self) -> None:
        """If the channel is busy, waits a moment for more entries to share the next sweep's writes."""
        idle_seconds = time.perf_counter() - self._swept_at
        waiting = self._queue.qsize()
        sweep_seconds = self._sweep_seconds
        busy = sweep_seconds >= BUSY_SECONDS and idle_seconds < max(BUSY_SECONDS, sweep_seconds * BUSY_SHARE)
        if busy and waiting < GATHER_ENTRIES:
            await asyncio.sleep(min(self._gather_seconds, sweep_seconds))
            paid = self._queue.qsize() > waiting
            self._gather_seconds = min(2 * self._gather_seconds, GATHER_SECONDS_MAX) if paid else GATHER_SECONDS_MIN

    def _drain(self) -> list[Entry]:
        """What has come and follows the head without a gap. What came too early is kept for later; what came late or
        twice is dropped."""
        run: list[Entry] = []
        run_bytes = 0
        expected = self.head + 1
        while True:
            if expected in self._early:
                entry = self._early.pop(expected)
            elif self._put_back is not None:
                entry, self._put_back = self._put_back, None
            elif self._queue.empty():
                return run
            else:
                item = self._queue.get_nowait()
                if item is None:
                    continue
                entry = item
            if entry.sequence > expected and entry.sequence not in self._early:
                self._early[entry.sequence] = entry
                continue
            self._queue_bytes = max(0, self._queue_bytes - size_bytes(entry))
            if entry.sequence != expected:
                continue
            for restated in self._restating.pop(expected, ()):
                now = restated(entry)
                if now is None:
                    self._empty_queue()
                    self._put_back = None
                    return run
                entry = now
            run.append(entry)
            run_bytes += size_bytes(entry)
            expected += 1
            if run_bytes > BATCH_BYTES:
                return run

    def taken(self, entries: Sequence[Entry]) -> None:
        """The delivery task hands out what `next` has just returned: the head moves to the end of it."""
        self.head = entries[-1].sequence
        if self._restating:
            self._restating = {place: how for place, how in self._restating.items() if place > self.head}

    def swept(self, began_at: float) -> None:
        """A sweep that began at `began_at`, in seconds of `time.perf_counter`, is over."""
        self._swept_at = time.perf_counter()
        self._sweep_seconds = self._swept_at - began_at
