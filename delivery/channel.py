"""A live channel: one task that moves its head over the log and takes every subscriber along.

Invariants, each of which a test holds:

1. `head` and the tail move before any await of a sweep, and only forward.
2. A sweep moves a subscriber's position only in the loop step in which its sink took what lies between, and only when
   the position equals the sweep's base.
3. A position moves back only in the step in which the sink gave back what it had not sent, because some of it was
   erased.
4. Only a subscriber that is at the head and has no catch-up enters a block. A block moves in sweeps alone.

From these, and those of `delivery/catch_up.py`, follows exactly once and in order: whoever moves a position has looked
at it in the same step. There is no "live" state: a subscriber is live when its position, or its block's, happens to
equal the base of the next sweep.
"""

import asyncio
import contextvars
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Sequence
from operator import attrgetter

from delivery.block import Block
from delivery.budget import CacheBudget
from delivery.catch_up import CatchUps
from delivery.cohort import Cohort
from delivery.figures import Figures
from delivery.inflow import Inflow
from delivery.pages import PageReader
from delivery.restating import Places, Restated, Watch, Watches
from delivery.results import Filter, Render, Results, Stretch
from delivery.shares import CohortBounds, Shares
from delivery.sink import Batch, Sink
from delivery.subscriber import Subscriber
from delivery.tail import Tail
from delivery.unsent import Unsent
from errors import Forbidden, InternalError, LogDamaged, RaqcoonError
from message_log.protocol import Entry, EntryLog

logger = logging.getLogger(__name__)

YIELD_EVERY_SUBSCRIBERS = 128
"""Writes between two yields to the event loop: about 1 ms."""


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
        self._read_head = read_head
        self._budget = results
        self._results: dict[Hashable, Results] = {}
        self._unfiltered = Shares(bounds)
        self._filtered = Shares(bounds)
        self._tails = tails
        self._figures = figures
        self._left = left
        self._watches = Watches()
        self.inflow = Inflow(channel_id, pages, self._watches, exclusive=log.exclusive)
        """Whoever hears of a commit tells the inflow."""
        self._unsent = Unsent()
        self._tail = Tail(tails)
        tails.add(self._tail)
        self._catch_ups = CatchUps(
            channel_id, log, pages, self.inflow, self._tail, self._watches, self._unsent, figures
        )
        self._opening: asyncio.Task[None] | None = None
        self._delivery: asyncio.Task[None] | None = None

    @property
    def head(self) -> int:
        """Sequence up to which entries have been handed to subscribers, or are being handed to them in this sweep."""
        return self.inflow.head

    def restate(self, places: Places, restated: Restated, *, take_back: bool) -> None:
        """Entries were stated anew. From this step on nobody is sent what they were before. With `take_back` this also
        holds for what sinks have taken and not sent yet."""
        self._tail.restate(places, restated)
        for results in self._results.values():
            results.forget(places)
        self._watches.note(places, restated)
        self.inflow.restate(places, restated)
        if take_back:
            for cohort, subscriber in self._unsent.take_back(places, restated):
                self._catch_ups.start(cohort, subscriber)

    # -- opening and closing ----------------------------------------------------------------------------------

    async def open(self) -> bool:
        """Reads the head from the log and starts delivering. Whoever calls this meanwhile waits for the same read.

        Returns whether that read began after this call, so that the head is as new as the caller can ask for.
        """
        if self._delivery is not None:
            return False
        looks = self._opening is None or (self._opening.done() and self._delivery is None)
        if looks:
            # The task serves every subscriber, so it must not inherit the context of the request that came first.
            self._opening = asyncio.get_running_loop().create_task(self._open(), context=contextvars.Context())
            # All who wait for it may have gone when it fails; then nobody else would retrieve the exception.
            self._opening.add_done_callback(lambda task: task.cancelled() or task.exception())
        assert self._opening is not None
        await asyncio.shield(self._opening)
        return looks

    async def _open(self) -> None:
        self.inflow.begin(await self._read_head(self.channel_id))
        self._delivery = asyncio.get_running_loop().create_task(self._deliver())

    def close(self) -> list[asyncio.Task[None]]:
        """Stops delivering, for good; returns the tasks that are ending."""
        self._tails.remove(self._tail)
        tasks = [task for task in (self._opening, self._delivery) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        # A task that was cancelled keeps the frames that it ended in, and these keep the channel. Without this line the
        # tail would stay in memory until the next full garbage collection.
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
        subscriber = Subscriber(position, cohort, sink, author)
        cohort.add(subscriber)
        self.subscribers += 1
        if position < self.head:
            self._catch_ups.start(cohort, subscriber)
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
        cohort = self.cohorts[key, filter] = Cohort((key, filter), filter, results, self, client)
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
        # Counted separately: when all filters are used up, everybody can still subscribe without one.
        return self._unfiltered if filter is None else self._filtered

    def leave(self, cohort: Cohort, subscriber: Subscriber) -> None:
        """Takes note that a member of `cohort` was closed, and ends its catch-up."""
        self._unsent.forget(subscriber)
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
                entries = await self.inflow.next()
                # Not the loop's clock: that of uvloop does not move while a callback runs, and a short sweep is one
                # callback.
                began_at, on_sweep = time.perf_counter(), self._figures.on_sweep
                began_at_wall_clock = time.time() if on_sweep is not None else 0.0
                base = self.inflow.head
                self._tail.extend(entries)
                self.inflow.taken(entries)
                with self._watches.watching() as watch:
                    await self._sweep(base, entries, watch)
                if on_sweep is not None:
                    on_sweep(entries, began_at_wall_clock)
                self.inflow.swept(began_at)
        except LogDamaged as error:
            self._fail(error)
        except Exception:
            # By the contracts of log, render and sink this is a defect.
            logger.exception("delivery in a channel has failed; its subscriptions end")
            self._fail(InternalError())

    def _fail(self, error: RaqcoonError) -> None:
        """Ends every subscription with the error, so that nobody waits for entries that never come. They may subscribe
        again."""
        self._delivery = None  # So whoever subscribes now or later opens the channel again.
        for cohort in list(self.cohorts.values()):
            for subscriber in cohort.members:
                subscriber.end(error)

    async def _sweep(self, base: int, entries: Sequence[Entry], watch: Watch) -> None:
        """Takes every subscriber whose position is `base` to the end of `entries`. All others that are behind it catch
        up. When one of the entries is stated anew meanwhile, those that are not served yet catch up too.

        The largest cohorts come first, so most subscribers do not wait for the small ones, however many there are.
        """
        writes = 0
        stretch = Stretch(entries)
        head = stretch.position
        for cohort in sorted(self.cohorts.values(), key=_size, reverse=True):
            stale = watch.touches(base + 1, head)
            batch = Batch(head, [], []) if stale else await stretch.batch(cohort.results, cohort.filter)
            delivered = 0
            # It also takes time to look at a cohort that gets nothing.
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
                            self._catch_ups.start(cohort, subscriber)
                            continue
                    writes += 1
                    try:
                        taken = not batch.payloads or subscriber.sink.write(batch)
                    except Exception:
                        # By the contract of Sink this is a defect. Nobody else may lose an entry because of it.
                        logger.exception("a sink has failed; its subscription ends")
                        subscriber.end(InternalError())
                        continue
                    if taken:
                        subscriber.took(batch)
                        self._unsent.note(cohort, subscriber)
                        delivered += 1
                        if subscriber.catch_up is None:
                            cohort.settle(subscriber)
                    else:
                        self._figures.slow_falls += 1
                        self._catch_ups.start(cohort, subscriber)
                elif subscriber.position < head:
                    self._catch_ups.start(cohort, subscriber)
            self._figures.swept(batch, delivered)

    def _let_catch_up(self, cohort: Cohort, block: Block[Subscriber]) -> None:
        for subscriber in block.members:
            subscriber.sink.release(subscriber)
            cohort.loosen(subscriber)
            self._catch_ups.start(cohort, subscriber)
