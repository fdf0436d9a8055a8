"""A live channel: one task that moves its head over the log and takes every subscriber along.

Invariants, each of which a test holds:

1. `head` and the tail move before any await of a sweep, and only forward.
2. A subscriber's position changes only in the loop step in which its sink took what lies between, wherever that
   happens: in the sweep, when it equals the sweep's base; in its catch-up, when it still is where the page began.
3. A subscriber has at most one catch-up. A catch-up ends only in a step in which the position has reached the head.
4. Only who is at the head and has no catch-up enters a block. A block moves in sweeps alone.

From these follows exactly once and in order: whoever moves a position has looked at it in the same step. There is no
"live" state: a subscriber is live when its position, or its block's, happens to equal the base of the next sweep.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from operator import attrgetter

from delivery.block import Block
from delivery.budget import CacheBudget
from delivery.cohort import Cohort
from delivery.figures import Figures
from delivery.pages import PAGE_BYTES, PAGE_ENTRIES, PageReader
from delivery.restating import Places, Restated, Watch
from delivery.results import Filter, Render, Results, Stretch
from delivery.shares import CohortBounds, Shares
from delivery.sink import Batch, Sink
from delivery.subscriber import Subscriber
from delivery.tail import Tail, size_bytes
from errors import CursorExpired, Forbidden, InternalError, LogDamaged, RaqcoonError, Unavailable
from message_log.protocol import Entry, EntryLog
from messages import encode_cursor

logger = logging.getLogger(__name__)

QUEUE_ENTRIES = 4096
"""Committed entries waiting for the delivery task. On overflow the queue is emptied: the log has everything."""
QUEUE_BYTES = 16 * 1024 * 1024
BATCH_BYTES = 256 * 1024
"""Contents of one sweep, so that one busy channel cannot hold the loop or a socket for long."""
YIELD_EVERY_SUBSCRIBERS = 128
"""Writes between two yields to the event loop: about 1 ms."""
BUSY_SECONDS = 0.001
BUSY_SHARE = 0.15
"""A channel is busy, and gathers, when its last sweep took longer than `BUSY_SECONDS` and ended less than that ago, or
less than this share of what it took: entries come as fast as it delivers them. One that keeps up never waits."""
GATHER_SECONDS_MIN, GATHER_SECONDS_MAX = 0.002, 0.01
"""How long a busy channel waits for more entries to share the next sweep's writes; never longer than the last sweep
took. The write is what costs: with 1,000 subscribers and 4 publishers this doubles what is delivered, at a lower
latency. The wait doubles each time it brings something, and falls to the least when it brings nothing: else a channel
whose sweeps take nearly all the time between two entries would fall behind by waiting, and wait for being behind."""
GATHER_ENTRIES = 64
"""As many entries make the writes cheap enough: with them a sweep does not wait for more."""
EARLY_SECONDS = 0.02
"""How long an entry of this or another process waits for one before it that has not come: hints gather for 3 ms, and
each process sends its own. Past it the log is read. Nobody waits so long but for a hint that was lost; a shorter wait
would make nodes that are busy, and so late with their hints, busier with reads. A hint that came without its entry is
read for at once."""
RETRY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)
"""Waits between reads of a log that does not answer; the last one repeats."""


_size = attrgetter("size")


class Channel:
    """One channel with at least one subscriber in this process."""

    def __init__(
        self,
        channel_id: str,
        log: EntryLog,
        read_head: Callable[[str], Awaitable[int]],
        pages: PageReader,
        results: CacheBudget,
        tails: CacheBudget,
        figures: Figures,
        bounds: CohortBounds,
        left: Callable[["Channel", asyncio.Task[None] | None], None],
    ) -> None:
        self.channel_id = channel_id
        self.cohorts: dict[Hashable, Cohort] = {}
        """By key of results and filter."""
        self.subscribers = 0
        self.holds = 0
        """Subscriptions being set up: they keep the channel alive while they wait for the log."""
        self.head = 0
        """Sequence up to which entries have been handed to subscribers, or are being handed in this sweep."""
        self.target = 0
        """Highest sequence known to be committed."""
        self._log = log
        self._read_head = read_head
        self._pages = pages
        self._budget = results
        self._results: dict[Hashable, Results] = {}
        self._unfiltered = Shares(bounds)
        self._filtered = Shares(bounds)
        self._tails = tails
        self._figures = figures
        self._left = left
        self._queue: asyncio.Queue[Entry | None] = asyncio.Queue(QUEUE_ENTRIES)
        self._queue_bytes = 0
        self._early: dict[int, Entry] = {}
        """Entries that came before one that precedes them, by sequence. `_queue_bytes` counts them too."""
        self._bare = 0
        """Sequence up to which entries will not come by themselves, as far as known: the log must be read."""
        self._put_back: Entry | None = None
        """The entry that woke the delivery task, still to be delivered: asyncio's queue cannot be peeked into."""
        self._restating: dict[int, list[Restated]] = {}
        """What was stated anew of entries that wait in the queue."""
        self._watches: set[Watch] = set()
        """Of entries that are on their way to subscribers."""
        self._tail = Tail(tails)
        tails.add(self._tail)
        self._swept_at = 0.0
        self._sweep_seconds = 0.0
        self._gather_seconds = GATHER_SECONDS_MIN
        self._opening: asyncio.Task[None] | None = None
        self._delivery: asyncio.Task[None] | None = None

    # -- what the log says ------------------------------------------------------------------------------------

    def offer(self, entry: Entry) -> None:
        """Takes an entry that is committed. Those of this process come in commit order; those of others late, twice
        or early, now and then."""
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
        """Entries were stated anew. From this step on nobody is sent what they were before."""
        self._tail.restate(places, restated)
        for results in self._results.values():
            results.forget(places)
        for watch in self._watches:
            watch.note(places, restated)
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

    # -- opening and closing ----------------------------------------------------------------------------------

    async def open(self) -> bool:
        """Finds the head in the log and starts delivering; whoever comes meanwhile waits for the same look.

        Returns whether the log was looked at since the call, so that the head is as new as the caller can ask for.
        """
        if self._delivery is not None:
            return False
        looks = self._opening is None or (self._opening.done() and self._delivery is None)
        if looks:
            # It serves every subscriber, not the request that happened to come first.
            self._opening = asyncio.get_running_loop().create_task(self._open(), context=contextvars.Context())
            # Whoever waits for it may be gone by the time it fails.
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        assert self._opening is not None
        await asyncio.shield(self._opening)
        return looks

    async def _open(self) -> None:
        self.head = await self._read_head(self.channel_id)
        self.target = max(self.target, self.head)
        self._delivery = asyncio.get_running_loop().create_task(self._deliver())

    def close(self) -> list[asyncio.Task[None]]:
        """Stops delivering, for good; returns the tasks that are ending."""
        self._tails.remove(self._tail)
        tasks = [task for task in (self._opening, self._delivery) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        # A task that was cancelled holds the frames it ended in, and they hold the channel: without this the tail would
        # stay until the next full collection.
        self._opening = self._delivery = None
        return tasks

    # -- subscribers ------------------------------------------------------------------------------------------

    def join(
        self,
        position: int,
        key: Hashable,
        filter: Filter | None,
        render: Render,
        sink: Sink,
        *,
        shared: bool,
        client: Hashable,
        author: str | None,
    ) -> Subscriber:
        """Adds a subscriber at `position`. With `shared` it joins the cohort of its key and filter.

        Raises:
            TooManyFilters: it would need one more cohort than the channel, or `client` in this channel, may have.
        """
        key = key if shared else object()
        cohort = self.cohorts.get((key, filter))
        if cohort is None:
            cohort = self._new_cohort(key, filter, render, client)
        subscriber = Subscriber(position, cohort, sink, self, author)
        cohort.add(subscriber)
        self.subscribers += 1
        if position < self.head:
            self.start_catch_up(subscriber)
        elif position == self.head:
            cohort.settle(subscriber)
        return subscriber

    def has_results(self, key: Hashable) -> bool:
        """Whether subscribers with this key share results already."""
        return key in self._results

    def _new_cohort(self, key: Hashable, filter: Filter | None, render: Render, client: Hashable) -> Cohort:
        self._shares(filter).take(client)
        results = self._results.get(key)
        if results is None:
            results = self._results[key] = Results(key, render, self._budget)
            self._budget.add(results)
        results.users += 1
        cohort = self.cohorts[key, filter] = Cohort((key, filter), filter, results, client)
        return cohort

    def _end_cohort(self, cohort: Cohort) -> None:
        self._shares(cohort.filter).give_back(cohort.client)
        del self.cohorts[cohort.key]
        results = cohort.results
        results.users -= 1
        if not results.users:
            del self._results[results.key]
            self._budget.remove(results)

    def _shares(self, filter: Filter | None) -> Shares:
        # Apart, so that whoever uses up all filters keeps nobody from subscribing without one.
        return self._unfiltered if filter is None else self._filtered

    def leave(self, subscriber: Subscriber) -> None:
        """Takes note that a subscriber was closed, and ends its catch-up."""
        cohort = subscriber.cohort
        self.subscribers -= 1
        if not cohort.size:
            self._end_cohort(cohort)
        if subscriber.catch_up is not None:
            subscriber.catch_up.cancel()
        self._left(self, subscriber.catch_up)

    def throw_out(self, authors: Collection[str]) -> None:
        """Ends the subscriptions of these authors, whether they are live, behind or slow."""
        for cohort in list(self.cohorts.values()):
            for subscriber in cohort.members:
                if subscriber.author in authors:
                    subscriber.end(Forbidden("Your access to this channel was revoked."))

    # -- the delivery task ------------------------------------------------------------------------------------

    async def _deliver(self) -> None:
        try:
            while True:
                entries = await self._next_entries()
                # Not the loop's clock: uvloop's stands still while a callback runs, and short sweeps are one.
                began_at, on_sweep = time.perf_counter(), self._figures.on_sweep
                began_at_wall_clock = time.time() if on_sweep is not None else 0.0
                base = self.head
                self._tail.extend(entries)
                self.head = entries[-1].sequence
                if self._restating:
                    self._restating = {place: how for place, how in self._restating.items() if place > self.head}
                with self._watched() as watch:
                    await self._sweep(base, entries, watch)
                if on_sweep is not None:
                    on_sweep(entries, began_at_wall_clock)
                self._swept_at = time.perf_counter()
                self._sweep_seconds = self._swept_at - began_at
        except LogDamaged as error:
            self._fail(error)
        except Exception:
            # A defect, by the contracts of log, render and sink.
            logger.exception("delivery in a channel has failed; its subscriptions end")
            self._fail(InternalError())

    def _fail(self, error: RaqcoonError) -> None:
        """Tells every subscriber: nobody may wait in silence for what never comes. They may come again."""
        self._delivery = None  # Whoever is subscribing now, or comes next, opens the channel anew.
        for cohort in list(self.cohorts.values()):
            for subscriber in cohort.members:
                subscriber.end(error)

    @contextmanager
    def _watched(self) -> Iterator[Watch]:
        watch = Watch()
        self._watches.add(watch)
        try:
            yield watch
        finally:
            self._watches.discard(watch)

    async def _next_entries(self) -> Sequence[Entry]:
        """Everything that waits, from head + 1 on and without a gap, at most about `BATCH_BYTES`."""
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
                if not self._log.exclusive and self._bare <= self.head:
                    now = time.perf_counter()
                    wait_until = now + EARLY_SECONDS if wait_until is None else wait_until
                    if now < wait_until:
                        with suppress(TimeoutError):
                            async with asyncio.timeout(wait_until - now):
                                self._put_back = await self._queue.get()
                        continue
                self._empty_queue()  # The log is the truth about what came early, too.
                try:
                    with self._watched() as watch:
                        page = watch.apply(await self._pages.news(self.channel_id, self.head))
                except Unavailable:
                    await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                    failures += 1
                    continue
                if page is None:
                    continue
                if page:
                    self.head = page[0].sequence - 1  # Above it if retention has overtaken the head; see `_page`.
                    return page
                if self._queue.empty():
                    # Nothing there: the hint was wrong. The sweep of heads would tell if it was only early.
                    self.target = self._bare = self.head

    async def _gather(self) -> None:
        """Where sweep follows on sweep, waits a moment for more entries to share the next one's writes."""
        idle_seconds = time.perf_counter() - self._swept_at
        waiting = self._queue.qsize()
        sweep_seconds = self._sweep_seconds
        busy = sweep_seconds >= BUSY_SECONDS and idle_seconds < max(BUSY_SECONDS, sweep_seconds * BUSY_SHARE)
        if busy and waiting < GATHER_ENTRIES:
            await asyncio.sleep(min(self._gather_seconds, sweep_seconds))
            paid = self._queue.qsize() > waiting
            self._gather_seconds = min(2 * self._gather_seconds, GATHER_SECONDS_MAX) if paid else GATHER_SECONDS_MIN

    def _drain(self) -> list[Entry]:
        """What came and continues the head. What came too early is kept apart; what came late or again is dropped."""
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

    async def _sweep(self, base: int, entries: Sequence[Entry], watch: Watch) -> None:
        """Takes everyone who stands at `base` to the end of `entries`; everyone else behind it catches up, and so does
        whoever is left when one of the entries is stated anew meanwhile.

        The largest cohorts come first: however many others there are, most subscribers do not wait for them.
        """
        writes = 0
        stretch = Stretch(entries)
        head = stretch.position
        for cohort in sorted(self.cohorts.values(), key=_size, reverse=True):
            stale = watch.touches(base + 1, head)
            batch = Batch(head, [], []) if stale else await stretch.batch(cohort.results, cohort.filter)
            delivered = 0
            # To look at a cohort that gets nothing is work too.
            writes += 1
            if writes >= YIELD_EVERY_SUBSCRIBERS:
                writes = 0
                await asyncio.sleep(0)
            for block in list(cohort.blocks):
                if block.position == base and not watch.touches(base + 1, head):
                    if writes + len(block) > YIELD_EVERY_SUBSCRIBERS:
                        writes = 0
                        await asyncio.sleep(0)
                        if watch.touches(base + 1, head):
                            self._let_catch_up(cohort, block)
                            continue
                    writes += len(block)
                    delivered += len(block)
                    for subscriber in block.write(batch):
                        subscriber.end(InternalError())
                elif block.position < head:
                    self._let_catch_up(cohort, block)
            for subscriber in list(cohort.loose):
                if subscriber.position == base and not watch.touches(base + 1, head):
                    if writes >= YIELD_EVERY_SUBSCRIBERS:
                        writes = 0
                        await asyncio.sleep(0)
                        if subscriber.position != base:
                            continue
                        if watch.touches(base + 1, head):
                            self.start_catch_up(subscriber)
                            continue
                    writes += 1
                    try:
                        taken = not batch.payloads or subscriber.sink.write(batch)
                    except Exception:
                        # A defect, by the contract of Sink; it must cost nobody else an entry.
                        logger.exception("a sink has failed; its subscription ends")
                        subscriber.end(InternalError())
                        continue
                    if taken:
                        subscriber.took(batch)
                        delivered += 1
                        if subscriber.catch_up is None:
                            cohort.settle(subscriber)
                    else:
                        self._figures.slow_falls += 1
                        self.start_catch_up(subscriber)
                elif subscriber.position < head:
                    self.start_catch_up(subscriber)
            self._figures.swept(batch, delivered)

    def _let_catch_up(self, cohort: Cohort, block: Block) -> None:
        for subscriber in block.members:
            subscriber.sink.release(subscriber)
            cohort.loosen(subscriber)
            self.start_catch_up(subscriber)

    # -- catching up ------------------------------------------------------------------------------------------

    def start_catch_up(self, subscriber: Subscriber) -> None:
        """Lets a subscriber that is behind move towards the head by itself. Does nothing when it already does."""
        if subscriber.catch_up is None:
            subscriber.catch_up = asyncio.get_running_loop().create_task(self._catch_up(subscriber))

    async def _catch_up(self, subscriber: Subscriber) -> None:
        try:
            await self._move_to_head(subscriber)
        except Exception as error:
            if not isinstance(error, CursorExpired | LogDamaged):
                logger.exception("catching up has failed; the subscription ends")
                error = InternalError()
            subscriber.catch_up = None  # It is this task: `end` must not cancel it.
            subscriber.end(error)
        else:
            subscriber.catch_up = None
            if subscriber.position == self.head:
                subscriber.cohort.settle(subscriber)

    async def _move_to_head(self, subscriber: Subscriber) -> None:
        failures = 0
        while subscriber.position < self.head:
            await subscriber.sink.writable()
            start = subscriber.position
            if start >= self.head:
                break
            with self._watched() as watch:
                try:
                    entries = watch.apply(await self._page(start))
                except Unavailable:
                    await asyncio.sleep(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                    failures += 1
                    continue
                except CursorExpired:
                    if subscriber.position != start:
                        continue
                    raise
                if entries is None:
                    continue
                cohort = subscriber.cohort
                batch = await Stretch(entries).batch(cohort.results, cohort.filter)
                # The sweep may have moved it while the page was read; an entry may have been stated anew.
                moved = subscriber.position != start or watch.touches(start + 1, batch.position)
            if not moved and (not batch.payloads or subscriber.sink.write(batch)):
                subscriber.took(batch)
                failures = 0
                self._figures.caught_up(batch, self.head - start)
            else:
                await asyncio.sleep(0)  # A sink that refuses what it called writable must not hold the loop.

    async def _page(self, position: int) -> Sequence[Entry]:
        """What follows `position`, up to the head at most; never empty.

        Raises:
            CursorExpired: retention has removed the entry after `position`.
            Unavailable: the log cannot answer now.
        """
        recent = self._tail.after(position, limit=PAGE_ENTRIES, max_bytes=PAGE_BYTES)
        if recent:
            return recent
        page = await self._pages.after(self.channel_id, position)
        if not page or page[0].sequence != position + 1:
            oldest = page[0].sequence if page else await self._log.oldest_sequence(self.channel_id)
            raise CursorExpired(encode_cursor(self._log.epoch, self.channel_id, oldest - 1))
        beyond = page[-1].sequence - self.head
        return page[:-beyond] if beyond > 0 else page
