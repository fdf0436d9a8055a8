"""The hub: which channels are live in this process, and the way in and out of them."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Hashable, Sequence

from delivery.budget import CacheBudget
from delivery.channel import Channel
from delivery.figures import Figures
from delivery.heads import HEADS_PER_QUERY, HeadReader
from delivery.pages import CACHE_BYTES, PageReader
from delivery.restating import Places, Restated
from delivery.results import Filter, Render
from delivery.shares import CohortBounds
from delivery.sink import Sink
from delivery.subscriber import Subscriber
from errors import CursorInvalid, LogDamaged, Unavailable
from message_log.protocol import Entry, EntryLog
from messages import Revocation

logger = logging.getLogger(__name__)

RESULTS_BYTES, RESULTS_OF_COHORT_BYTES = 64 * 1024 * 1024, 1024 * 1024
"""Results that all cohorts keep for those who catch up, and one of them at most."""
TAILS_BYTES, TAIL_BYTES = 64 * 1024 * 1024, 1024 * 1024
"""Newest entries that all live channels keep, and one of them at most."""


def _unknown(entry: Entry) -> None:
    """For `restate`: what the entry is now has to be read from the log."""


class Hub:
    """Hands committed entries of one log to the subscribers of their channels.

    A channel is in the registry while it has a subscriber or a subscription is being set up, and costs nothing else.
    """

    def __init__(
        self,
        log: EntryLog,
        *,
        max_cohorts: int = 10_000,
        bounds: CohortBounds = CohortBounds(),  # noqa: B008 - it is frozen
        sweep_interval_seconds: float = 0.25,
        results: CacheBudget | None = None,
        tails: CacheBudget | None = None,
        pages_bytes: int = CACHE_BYTES,
    ) -> None:
        self.channels: dict[str, Channel] = {}
        self.figures = Figures()
        self.on_head: Callable[[str, int], None] | None = None
        """Told of each head that is read for subscribers, before any of them is sent the entries up to it."""
        self.pages = PageReader(log, cache_bytes=pages_bytes)
        self._heads = HeadReader(log)
        self._log = log
        self._max_cohorts = max_cohorts
        self._bounds = bounds
        self._sweep_interval_seconds = sweep_interval_seconds
        self._results = CacheBudget(RESULTS_BYTES, RESULTS_OF_COHORT_BYTES) if results is None else results
        self._tails = CacheBudget(TAILS_BYTES, TAIL_BYTES) if tails is None else tails
        self._ending: set[asyncio.Task[None]] = set()
        self._head_sweep: asyncio.Task[None] | None = None
        self._sweep_now = asyncio.Event()

    async def start(self) -> None:
        """Begins to look for heads of live channels that other processes have moved."""
        if not self._log.exclusive:
            self._head_sweep = asyncio.get_running_loop().create_task(self._sweep_heads())

    async def stop(self) -> None:
        """Ends every subscription and waits until no task of the hub is left."""
        if self._head_sweep is not None:
            self._head_sweep.cancel()
            await asyncio.gather(self._head_sweep, return_exceptions=True)
        for channel in list(self.channels.values()):
            for cohort in list(channel.cohorts.values()):
                for subscriber in cohort.members:
                    subscriber.end(None)
            self._release(channel, force=True)
        await self._heads.close()
        await asyncio.gather(*self._ending, return_exceptions=True)
        await self.pages.close()

    @property
    def subscribers(self) -> int:
        return sum(channel.subscribers for channel in self.channels.values())

    @property
    def cohorts(self) -> int:
        return len(self._results)

    # -- what the log says ------------------------------------------------------------------------------------

    def committed(self, entries: Sequence[Entry]) -> None:
        self.figures.committed(len(entries))
        for entry in entries:
            channel = self.channels.get(entry.channel_id)
            if channel is not None:
                channel.inflow.offer(entry)

    def hinted(self, channel_id: str, sequence: int) -> None:
        self.figures.hints += 1
        channel = self.channels.get(channel_id)
        if channel is not None:
            channel.inflow.hint(sequence)

    def restate(self, channel_id: str, places: Places, restated: Restated, *, take_back: bool = False) -> None:
        """Entries of a channel have changed: from this step on nobody is sent what they were before, and nothing of
        that is kept. With `take_back`, sinks also give back what they have not sent of it."""
        self.pages.restate(channel_id, places)
        channel = self.channels.get(channel_id)
        if channel is not None:
            channel.restate(places, restated, take_back=take_back)

    def forget(self, channel_id: str) -> None:
        """Any entry of a channel may have changed: nothing of it is kept, and the log is read again."""
        self.restate(channel_id, None, _unknown, take_back=True)

    @property
    def kept_channels(self) -> set[str]:
        """The channels of which something is kept or being read."""
        return {*self.channels, *self.pages.channels}

    def missed(self) -> None:
        self._sweep_now.set()

    def heard(self, entries: Sequence[Entry]) -> None:
        self.figures.heard += len(entries)
        for entry in entries:
            channel = self.channels.get(entry.channel_id)
            if channel is not None:
                channel.inflow.offer(entry)

    def revoked(self, revocations: Sequence[Revocation]) -> None:
        """Ends the subscriptions of those whose access was revoked, whether they are live, behind or slow."""
        everywhere = {each.author for each in revocations if each.channel_id is None}
        by_channel: dict[str, set[str]] = {}
        for each in revocations:
            if each.channel_id is not None:
                by_channel.setdefault(each.channel_id, set()).add(each.author)
        for channel_id in list(self.channels) if everywhere else by_channel:
            channel = self.channels.get(channel_id)
            if channel is not None:
                channel.throw_out(everywhere | by_channel.get(channel_id, set()))

    # -- subscribing ------------------------------------------------------------------------------------------

    async def subscribe(
        self,
        channel_id: str,
        position: int | None,
        *,
        cohort: Hashable,
        filter: Filter | None,
        render: Render,
        sink: Sink,
        author: str | None = None,
        client: Hashable = None,
    ) -> Subscriber:
        """Adds a subscriber that is sent everything after `position`, once and in order. None is the present head.

        `author` is whose subscription it is, so that it can be ended when his access is revoked; None if it is
        nobody's.

        Subscribers of a channel with equal `cohort` share executions: `render` of the first one serves them all, and
        filters choose from its results. `client` is counted for opening a cohort; None is not counted. When this
        returns, the subscription is in place: whatever is committed from now on will be sent.

        Raises:
            CursorInvalid: `position` is past the head.
            TooManyFilters: the channel, or the client in it, has as many cohorts as it may have.
            Unavailable: the log cannot tell the head now.
            LogDamaged: the head cannot be read.
        """
        channel = self.channels.get(channel_id)
        if channel is None:
            channel = self.channels[channel_id] = Channel(
                channel_id,
                self._log,
                self._read_head,
                self.pages,
                self._results,
                self._tails,
                self.figures,
                self._bounds,
                self._left,
            )
        channel.holds += 1
        try:
            looked = await channel.open()
            # If no other process appends, what this process knows to be committed is exact, except for a commit whose
            # callback has not run yet: somebody who reads the log may already have its cursor.
            # If others append, `target` is only a claim of theirs: a subscriber's position must be one that was read.
            exclusive = self._log.exclusive
            head = channel.inflow.target if exclusive else channel.head
            needed = position > head if position is not None else not exclusive
            if needed and not looked:
                read = await self._read_head(channel_id)
                channel.inflow.hint(read)
                head = max(read, channel.inflow.target if exclusive else channel.head)
            if position is None:
                position = head
            elif position > head:
                raise CursorInvalid("is past the channel's newest entry")
            await channel.open()  # Opens it again only if delivery has failed meanwhile; else returns in this step.
            shared = len(self._results) < self._max_cohorts or channel.has_results(cohort)
            return channel.join(position, cohort, filter, render, sink, shared=shared, client=client, author=author)
        finally:
            channel.holds -= 1
            self._release(channel)

    def _left(self, channel: Channel, ending: asyncio.Task[None] | None) -> None:
        if ending is not None:
            self._await_end(ending)
        self._release(channel)

    def _release(self, channel: Channel, *, force: bool = False) -> None:
        if force or (not channel.subscribers and not channel.holds):
            if self.channels.get(channel.channel_id) is channel:
                del self.channels[channel.channel_id]
            for task in channel.close():
                self._await_end(task)

    def _await_end(self, task: asyncio.Task[None]) -> None:
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # -- heads that other processes move ----------------------------------------------------------------------

    async def _read_head(self, channel_id: str) -> int:
        head = await self._heads.read(channel_id)
        if self.on_head is not None:
            self.on_head(channel_id, head)
        return head

    async def _sweep_heads(self) -> None:
        """Makes up for lost hints: reads the heads of all live channels, every `sweep_interval_seconds` or when
        asked."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._sweep_interval_seconds):
                    await self._sweep_now.wait()
            self._sweep_now.clear()
            live = list(self.channels)
            for start in range(0, len(live), HEADS_PER_QUERY):
                try:
                    heads = await self._log.last_sequences(live[start : start + HEADS_PER_QUERY])
                except (Unavailable, LogDamaged):
                    break
                except Exception:
                    logger.exception("the heads of channels could not be read")
                    break
                for channel_id, sequence in heads.items():
                    self.figures.hints += 1
                    channel = self.channels.get(channel_id)
                    if channel is not None:
                        channel.inflow.expect(sequence)
