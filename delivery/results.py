"""What an operation makes of a channel's entries. Each entry is rendered once for all subscribers with this operation.

Filters choose entries, and the result for an entry does not depend on them. So all cohorts of a channel that differ
only in their filter share one `Results`, and a sweep, or a page of catching up, is one `Stretch` for all of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, Protocol

from delivery.budget import CacheBudget
from delivery.restating import Places
from delivery.sink import Batch
from message_log.protocol import Entry

Render = Callable[[Any], bytes | Awaitable[bytes]]
"""Executes and encodes one entry. Never raises: an error is part of the result."""

YIELD_EVERY_RENDERS = 16
"""Executions between two yields to the event loop; one takes about 100 µs."""

KEPT_OVERHEAD_BYTES = 160
"""Memory for a kept result besides its bytes: the object, its key, its place in a dict."""


class Filter(Protocol):
    """Which entries of a log are wanted. Filters are hashable, and those that mean the same are equal."""

    def matches(self, entry: Any, /) -> bool: ...

    def __hash__(self) -> int: ...


class Results:
    """The results of one operation in one channel. They are kept for those who catch up, within a share of the
    budget."""

    __slots__ = ("_budget", "_generation", "_kept", "_kept_bytes", "_render", "key", "users")

    def __init__(self, key: Hashable, render: Render, budget: CacheBudget) -> None:
        self.key = key
        self.users = 0
        """Cohorts that are served from here."""
        self._render = render
        self._budget = budget
        self._generation = 0
        """Incremented when results are forgotten: a result whose rendering began before that is not kept."""
        self._kept: dict[int, bytes] = {}
        self._kept_bytes = 0

    async def of(self, entries: Sequence[Entry], made: dict[int, bytes]) -> list[bytes]:
        """The result for each entry. `made` holds those already made for this stretch, even if they are not kept
        here."""
        kept, generation = self._kept, self._generation
        payloads = []
        executed = 0
        for entry in entries:
            sequence = entry.sequence
            payload = made.get(sequence)
            if payload is None:
                payload = kept.get(sequence)
                if payload is None:
                    rendered = self._render(entry)
                    payload = rendered if isinstance(rendered, bytes) else await rendered
                    if generation == self._generation:
                        self._keep(sequence, payload)
                    executed += 1
                    if executed % YIELD_EVERY_RENDERS == 0:
                        await asyncio.sleep(0)
                made[sequence] = payload
            payloads.append(payload)
        return payloads

    def _keep(self, sequence: int, payload: bytes) -> None:
        if sequence in self._kept or self not in self._budget:  # Its last user may have left while it was executed.
            return
        before = self._kept_bytes
        # A copy, since bytes from orjson (3.13) keep the 4 KiB that they were written into, however short they are.
        self._kept[sequence] = bytes(memoryview(payload))
        self._kept_bytes += len(payload) + KEPT_OVERHEAD_BYTES
        self._cut(self._budget.share_bytes())
        self._budget.account(self._kept_bytes - before)

    def forget(self, places: Places) -> None:
        """Drops the results of entries that were stated anew."""
        self._generation += 1
        before = self._kept_bytes
        for place in list(self._kept) if places is None else places:
            payload = self._kept.pop(place, None)
            if payload is not None:
                self._kept_bytes -= len(payload) + KEPT_OVERHEAD_BYTES
        if before != self._kept_bytes:
            self._budget.account(self._kept_bytes - before)

    def trim(self, share_bytes: int) -> None:
        """Drops the oldest results until at most `share_bytes` are kept, and accounts for it."""
        before = self._kept_bytes
        self._cut(share_bytes)
        if before != self._kept_bytes:
            self._budget.account(self._kept_bytes - before)

    def _cut(self, share_bytes: int) -> None:
        kept = self._kept
        while self._kept_bytes > share_bytes:
            self._kept_bytes -= len(kept.pop(next(iter(kept)))) + KEPT_OVERHEAD_BYTES


class Stretch:
    """Entries that follow each other without a gap, at least one, on their way to the cohorts of their channel.

    Each result is made once for all cohorts, and cohorts whose filters choose the same entries share one batch.
    """

    __slots__ = ("_batches", "_made", "entries", "position")

    def __init__(self, entries: Sequence[Entry]) -> None:
        self.entries = entries
        self.position = entries[-1].sequence
        self._made: dict[Results, dict[int, bytes]] = {}
        self._batches: dict[Hashable, Batch] = {}

    async def batch(self, results: Results, filter: Filter | None) -> Batch:
        """The stretch for a cohort with these results and this filter; without a filter it gets everything."""
        entries = self.entries if filter is None else [entry for entry in self.entries if filter.matches(entry)]
        if not entries:
            key: Hashable = None
        elif len(entries) == len(self.entries):
            key = results
        else:
            key = (results, *[entry.sequence for entry in entries])
        batch = self._batches.get(key)
        if batch is None:
            payloads = await results.of(entries, self._made.setdefault(results, {})) if entries else []
            batch = self._batches[key] = Batch(self.position, entries, payloads)
        return batch
