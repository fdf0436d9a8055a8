"""The hubs of a server. A channel has two logs, its messages and its changes, and there is one hub for each log. Both
are of the same class, and no hub knows which of the two it is."""

import asyncio
import gc
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

from cachetools import LRUCache

from changes import MessageChange, MessageChangeKind, apply_change, without_text
from delivery.budget import CacheBudget
from delivery.heads import HEADS_PER_QUERY
from delivery.hub import RESULTS_BYTES, RESULTS_OF_COHORT_BYTES, TAIL_BYTES, TAILS_BYTES, Hub
from delivery.shares import CohortBounds
from errors import LogDamaged, Unavailable
from message_log.protocol import Commit, Entry, MessageLog
from messages import Message, Revocation

logger = logging.getLogger(__name__)

CHANGE_PAGES_BYTES = 8 * 1024 * 1024
"""Memory for pages of changes that are kept for others. It is small, since changes are small and soon of no
interest."""
KNOWN_CHANNELS = 100_000
"""Channels whose newest change is remembered. When a channel that is not remembered changes, all that is kept of it is
dropped."""


class Hubs:
    """The hub of messages and the hub of changes. Implements the log's `LogListener`.

    What the channels and cohorts of both keep has one common bound, and so has the number of cohorts.
    """

    def __init__(
        self,
        log: MessageLog,
        *,
        max_cohorts: int = 10_000,
        bounds: CohortBounds = CohortBounds(),  # noqa: B008 - it is frozen
        sweep_interval_seconds: float = 0.25,
    ) -> None:
        self.on_revoked: Callable[[Sequence[Revocation]], None] | None = None
        """Told of revocations before their subscriptions end, so that a connection can be closed as a whole."""
        self._log = log
        self._sweep_interval_seconds = sweep_interval_seconds
        self.on_moved: Callable[[str | None], None] | None = None
        """Told the id of each channel that a commit of this process touches, None for all channels."""
        self._sweep: asyncio.Task[None] | None = None
        self._known: LRUCache[str, int] = LRUCache(KNOWN_CHANNELS)
        """By channel, the newest change that everything kept of the channel already includes."""
        self._names_taken: int | None = None
        self._collection: asyncio.TimerHandle | None = None
        results = CacheBudget(RESULTS_BYTES, RESULTS_OF_COHORT_BYTES)
        tails = CacheBudget(TAILS_BYTES, TAIL_BYTES)
        self.messages = Hub(
            log,
            max_cohorts=max_cohorts,
            bounds=bounds,
            sweep_interval_seconds=sweep_interval_seconds,
            results=results,
            tails=tails,
        )
        self.changes = Hub(
            log.changes,
            max_cohorts=max_cohorts,
            bounds=bounds,
            sweep_interval_seconds=sweep_interval_seconds,
            results=results,
            tails=tails,
            pages_bytes=CHANGE_PAGES_BYTES,
        )
        if not log.exclusive:
            self.changes.on_head = self._reached

    async def start(self) -> None:
        """Begins to look for heads of live channels that other processes have moved."""
        await self.messages.start()
        await self.changes.start()
        if not self._log.exclusive:
            self._sweep = asyncio.get_running_loop().create_task(self._sweep_changes())

    async def stop(self) -> None:
        """Ends every subscription and waits until no task of a hub is left."""
        if self._collection is not None:
            self._collection.cancel()
        if self._sweep is not None:
            self._sweep.cancel()
            await asyncio.gather(self._sweep, return_exceptions=True)
        await self.messages.stop()
        await self.changes.stop()

    def committed(self, commit: Commit) -> None:
        if self.on_moved is not None:
            for channel_id in {each.channel_id for each in commit.messages} | {
                each.channel_id for each in commit.changes
            }:
                self.on_moved(channel_id)
        if commit.messages:
            self.messages.committed(commit.messages)
        if commit.changes:
            self._restate(commit.changes)
            self.changes.committed(commit.changes)

    def revoked(self, revocations: Sequence[Revocation]) -> None:
        if self.on_revoked is not None:
            self.on_revoked(revocations)
        self.messages.revoked(revocations)
        self.changes.revoked(revocations)

    def forget_everything(self) -> None:
        """Drops everything that is kept, since an author's name was removed from the log. It will be read again."""
        if self.on_moved is not None:
            self.on_moved(None)
        for hub in (self.messages, self.changes):
            for channel_id in hub.kept_channels:
                hub.forget(channel_id)

    def missed(self) -> None:
        self.messages.missed()
        self.changes.missed()

    def heard(self, commit: Commit) -> None:
        if commit.messages:
            self.messages.heard(commit.messages)
        if commit.changes:
            self._restate(commit.changes)
            self.changes.heard(commit.changes)

    def misheard(self) -> None:
        self.messages.figures.misheard += 1

    def hinted(self, channel_id: str, sequence: int) -> None:
        self.messages.hinted(channel_id, sequence)

    def hinted_changes(self, channel_id: str, sequence: int) -> None:
        self._reached(channel_id, sequence)
        self.changes.hinted(channel_id, sequence)

    # -- what changes make of messages ------------------------------------------------------------------------

    def _restate(self, changes: Sequence[MessageChange]) -> None:
        """Applies changes to everything that is kept, so that nothing of it shows what was before. They come in commit
        order, or as other processes tell them."""
        for change in changes:
            channel_id, known = change.channel_id, self._known.get(change.channel_id, 0)
            if change.sequence > known:
                if change.sequence > known + 1 and not self._log.exclusive:
                    self._forget(channel_id)  # The changes in between are not known, and may be about any message.
                self._known[channel_id] = change.sequence
            erases = change.kind is MessageChangeKind.ERASED
            place = (change.message_sequence,)
            self.messages.restate(channel_id, place, partial(_changed, change), take_back=erases)
            if erases:
                self.changes.restate(channel_id, None, partial(_erased, change), take_back=True)
                if self._collection is None:
                    loop = asyncio.get_running_loop()
                    self._collection = loop.call_later(self._sweep_interval_seconds, self._collect)

    def _collect(self) -> None:
        """Frees operations that are over, with their variables and results. graphql-core's executor refers to itself,
        so they wait for the collector, and it runs seldom where little happens. The oldest generation is left alone:
        collecting it takes long, and such objects do not get there."""
        self._collection = None
        gc.collect(1)

    def _reached(self, channel_id: str, sequence: int) -> None:
        """A channel has changes up to `sequence`. Those that are new are not known here."""
        if sequence > self._known.get(channel_id, 0):
            self._known[channel_id] = sequence
            self._forget(channel_id)

    def _forget(self, channel_id: str) -> None:
        self.messages.forget(channel_id)
        self.changes.forget(channel_id)

    async def _sweep_changes(self) -> None:
        """Finds changes that nobody told of. Again and again it reads the newest change of every channel of which
        messages or changes are kept, and whether an author's name was removed from changes."""
        while True:
            await asyncio.sleep(self._sweep_interval_seconds)
            await self._look_for_names()
            kept = list(self.messages.kept_channels | self.changes.kept_channels)
            for start in range(0, len(kept), HEADS_PER_QUERY):
                try:
                    heads = await self._log.changes.last_sequences(kept[start : start + HEADS_PER_QUERY])
                except (Unavailable, LogDamaged):
                    break
                except Exception:
                    logger.exception("the changes of channels could not be read")
                    break
                for channel_id, sequence in heads.items():
                    self._reached(channel_id, sequence)

    async def _look_for_names(self) -> None:
        """Drops everything if a name was removed from changes since the last look: such changes get no new numbers."""
        try:
            taken = await self._log.names_taken()
        except (Unavailable, LogDamaged):
            return
        except Exception:
            logger.exception("whether names were taken from changes could not be read")
            return
        if taken != self._names_taken:
            self._names_taken = taken
            self.forget_everything()


def _changed(change: MessageChange, entry: Entry) -> Entry | None:
    message = cast(Message, entry)
    after = apply_change(message, change)
    return after if after.revision >= change.revision else None


def _erased(erasure: MessageChange, entry: Entry) -> Entry:
    change = cast(MessageChange, entry)
    if change.message_sequence != erasure.message_sequence or change.sequence >= erasure.sequence:
        return change
    return without_text(change)
