"""Catching up: each subscriber that is behind moves towards the head by itself, as fast as its sink takes pages.

Invariants, each of which a test holds:

1. A subscriber has at most one catch-up: the task in its `catch_up`.
2. A catch-up moves the position only in the loop step in which the sink took what lies between, and only when the
   position still is where the page began.
3. A catch-up ends only in a step in which the position has reached the head. In this step, and
   not before, the subscriber may enter a block.

See `delivery/channel.py` for what follows from these and from the invariants of a sweep.
"""

import asyncio
import logging
from collections.abc import Sequence

from delivery.cohort import Cohort
from delivery.figures import Figures
from delivery.inflow import Inflow
from delivery.pages import PAGE_BYTES, PAGE_ENTRIES, PageReader, pause_before_retry
from delivery.restating import Watches
from delivery.results import Stretch
from delivery.subscriber import Subscriber
from delivery.tail import Tail
from delivery.unsent import Unsent
from errors import CursorExpired, InternalError, LogDamaged, Unavailable
from message_log.protocol import Entry, EntryLog
from messages import encode_cursor

logger = logging.getLogger(__name__)


class CatchUps:
    """The catch-ups of one channel: they read what its inflow has handed out, from its tail or from the log."""

    __slots__ = ("_channel_id", "_figures", "_inflow", "_log", "_pages", "_tail", "_unsent", "_watches")

    def __init__(
        self,
        channel_id: str,
        log: EntryLog,
        pages: PageReader,
        inflow: Inflow,
        tail: Tail,
        watches: Watches,
        unsent: Unsent,
        figures: Figures,
    ) -> None:
        self._channel_id = channel_id
        self._log = log
        self._pages = pages
        self._inflow = inflow
        self._tail = tail
        self._watches = watches
        self._unsent = unsent
        self._figures = figures

    def start(self, cohort: Cohort, subscriber: Subscriber) -> None:
        """Lets a member of `cohort` that is behind move towards the head by itself.

        Does nothing when it already does.
        """
        if subscriber.catch_up is None:
            subscriber.catch_up = asyncio.get_running_loop().create_task(self._catch_up(cohort, subscriber))

    async def _catch_up(self, cohort: Cohort, subscriber: Subscriber) -> None:
        try:
            await self._move_to_head(cohort, subscriber)
        except Exception as error:
            if not isinstance(error, CursorExpired | LogDamaged):
                logger.exception("catching up has failed; the subscription ends")
                error = InternalError()
            subscriber.catch_up = None  # It is this task: `end` must not cancel it.
            subscriber.end(error)
        else:
            subscriber.catch_up = None
            if subscriber.position == self._inflow.head:
                cohort.settle(subscriber)

    async def _move_to_head(self, cohort: Cohort, subscriber: Subscriber) -> None:
        failures = 0
        while subscriber.position < self._inflow.head:
            await subscriber.sink.writable()
            start = subscriber.position
            if start >= self._inflow.head:
                break
            with self._watches.watching() as watch:
                try:
                    entries = watch.apply(await self._page(start))
                except Unavailable:
                    await pause_before_retry(failures)
                    failures += 1
                    continue
                except CursorExpired:
                    if subscriber.position != start:
                        continue
                    raise
                if entries is None:
                    continue
                batch = await Stretch(entries).batch(cohort.results, cohort.filter)
                # The sweep may have moved it while the page was read; an entry may have been stated anew.
                moved = subscriber.position != start or watch.touches(start + 1, batch.position)
            if not moved and (not batch.payloads or subscriber.sink.write(batch)):
                subscriber.took(batch)
                self._unsent.note(cohort, subscriber)
                failures = 0
                self._figures.caught_up(batch, self._inflow.head - start)
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
        page = await self._pages.after(self._channel_id, position)
        if not page or page[0].sequence != position + 1:
            oldest = page[0].sequence if page else await self._log.oldest_sequence(self._channel_id)
            raise CursorExpired(encode_cursor(self._log.epoch, self._channel_id, oldest - 1))
        beyond = page[-1].sequence - self._inflow.head
        return page[:-beyond] if beyond > 0 else page
