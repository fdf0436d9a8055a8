"""A cohort: subscribers of one channel whose results are the same bytes."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from delivery.block import Block
from delivery.budget import CacheBudget
from delivery.sink import Batch
from message_log.protocol import Entry

if TYPE_CHECKING:
    from delivery.subscriber import Subscriber

Render = Callable[[Any], bytes | Awaitable[bytes]]
"""Executes and encodes one entry. Never raises: an error is part of the result."""


class Filter(Protocol):
    """Which entries of a log are wanted. Filters that mean the same are equal, and hashable."""

    def matches(self, entry: Any, /) -> bool: ...

    def __hash__(self) -> int: ...


YIELD_EVERY_RENDERS = 16
"""Executions between two yields to the event loop; one takes about 100 µs."""


KEPT_OVERHEAD_BYTES = 160
"""What a kept result costs beside its bytes: the object, its key, its place in a dict."""


class Cohort:
    """Executes an operation once per entry for all of its members, and encodes the result once.

    A member is in one of the `blocks`, or `loose`: behind, or with a sink that has to be asked. `loose` is used as an
    ordered set.
    """

    __slots__ = ("_budget", "_kept", "_kept_bytes", "_render", "blocks", "filter", "key", "loose")

    def __init__(self, key: Hashable, filter: Filter | None, render: Render, budget: CacheBudget) -> None:
        self.key = key
        self.filter = filter
        self.blocks: list[Block] = []
        self.loose: dict[Subscriber, None] = {}
        self._render = render
        self._budget = budget
        self._kept: dict[int, bytes] = {}
        self._kept_bytes = 0

    @property
    def members(self) -> "list[Subscriber]":
        return [*(member for block in self.blocks for member in block.members), *self.loose]

    @property
    def empty(self) -> bool:
        return not self.blocks and not self.loose

    def settle(self, subscriber: "Subscriber") -> None:
        """Lets a loose subscriber that is at the head, and does not catch up, enter a block if its sink permits it."""
        claim = subscriber.sink.claim(subscriber)
        if claim is None:
            return
        position = subscriber.position
        # The newest first: it has room, unless members have left others.
        block = next((block for block in reversed(self.blocks) if block.has_room(position, claim)), None)
        if block is None:
            block = Block(position, claim.layout)
            self.blocks.append(block)
        del self.loose[subscriber]
        subscriber.enter(block, claim)

    def loosen(self, subscriber: "Subscriber") -> None:
        """Takes a subscriber, whose claim has ended, out of its block."""
        block = subscriber.get_loose()
        if block is not None:
            self.loose[subscriber] = None
            if not len(block):
                self.blocks.remove(block)

    def remove(self, subscriber: "Subscriber") -> None:
        """Forgets a member."""
        self.loosen(subscriber)
        del self.loose[subscriber]

    async def encode(self, entries: Sequence[Entry]) -> Batch:
        """`entries` (contiguous, not empty) as this cohort's members see them."""
        wanted = list(entries) if self.filter is None else [m for m in entries if self.filter.matches(m)]
        kept = self._kept
        payloads = []
        executed = 0
        for entry in wanted:
            payload = kept.get(entry.sequence)
            if payload is None:
                rendered = self._render(entry)
                payload = rendered if isinstance(rendered, bytes) else await rendered
                self._keep(entry.sequence, payload)
                executed += 1
                if executed % YIELD_EVERY_RENDERS == 0:
                    await asyncio.sleep(0)
            payloads.append(payload)
        return Batch(entries[-1].sequence, wanted, payloads)

    def _keep(self, sequence: int, payload: bytes) -> None:
        if sequence in self._kept or self not in self._budget:  # Its last member may have left while it was executed.
            return
        before = self._kept_bytes
        # A copy, since orjson's bytes keep the 4 KiB that they were written into (3.13), however short they are.
        self._kept[sequence] = bytes(memoryview(payload))
        self._kept_bytes += len(payload) + KEPT_OVERHEAD_BYTES
        self._cut(self._budget.share_bytes())
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
