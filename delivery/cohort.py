"""A cohort: subscribers of one channel whose results are the same bytes."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import TYPE_CHECKING

from delivery.sink import Batch
from messages import Message, MessageFilter

if TYPE_CHECKING:
    from delivery.subscriber import Subscriber

Render = Callable[[Message], bytes | Awaitable[bytes]]
"""Executes and encodes one message. Never raises: an error is part of the result."""

YIELD_EVERY_RENDERS = 16
"""Executions between two yields to the event loop; one takes about 100 µs."""


class CacheBudget:
    """Bytes that all cohorts together may keep, shared out evenly among those alive. It knows every living cohort."""

    def __init__(self, total_bytes: int, cohort_max_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._cohort_max_bytes = cohort_max_bytes
        self._cohorts: set[Cohort] = set()
        self._kept_bytes = 0

    @property
    def cohorts(self) -> int:
        return len(self._cohorts)

    def __contains__(self, cohort: "Cohort") -> bool:
        return cohort in self._cohorts

    def add(self, cohort: "Cohort") -> None:
        self._cohorts.add(cohort)

    def remove(self, cohort: "Cohort") -> None:
        """Forgets a cohort that has ended; what it kept is free."""
        self._cohorts.remove(cohort)
        cohort.trim(0)

    def share_bytes(self) -> int:
        return min(self._cohort_max_bytes, self._total_bytes // max(1, len(self._cohorts)))

    def account(self, change_bytes: int) -> None:
        """Notes what a cohort keeps more or less. A cohort with nothing to do may still hold a larger share than it
        has by now: where they exceed the whole, all are cut to theirs."""
        self._kept_bytes += change_bytes
        if change_bytes > 0 and self._kept_bytes > self._total_bytes:
            share = self.share_bytes()
            for cohort in self._cohorts:
                cohort.trim(share)


class Cohort:
    """Executes an operation once per message for all of its members, and encodes the result once.

    `members` is ordered by joining; the dict is used as an ordered set.
    """

    __slots__ = ("_budget", "_kept", "_kept_bytes", "_render", "filter", "key", "members")

    def __init__(self, key: Hashable, filter: MessageFilter | None, render: Render, budget: CacheBudget) -> None:
        self.key = key
        self.filter = filter
        self.members: dict[Subscriber, None] = {}
        self._render = render
        self._budget = budget
        self._kept: dict[int, bytes] = {}
        self._kept_bytes = 0

    async def encode(self, messages: Sequence[Message]) -> Batch:
        """`messages` (contiguous, not empty) as this cohort's members see them."""
        wanted = list(messages) if self.filter is None else [m for m in messages if self.filter.matches(m)]
        kept = self._kept
        payloads = []
        executed = 0
        for message in wanted:
            payload = kept.get(message.sequence)
            if payload is None:
                rendered = self._render(message)
                payload = rendered if isinstance(rendered, bytes) else await rendered
                self._keep(message.sequence, payload)
                executed += 1
                if executed % YIELD_EVERY_RENDERS == 0:
                    await asyncio.sleep(0)
            payloads.append(payload)
        return Batch(messages[-1].sequence, wanted, payloads)

    def _keep(self, sequence: int, payload: bytes) -> None:
        kept = self._kept
        if sequence not in kept and self in self._budget:  # Its last member may have left while it was executed.
            # A copy, since orjson's bytes keep the 4 KiB that they were written into (3.13), however short they are.
            kept[sequence] = bytes(memoryview(payload))
            self._kept_bytes += len(payload)
            self._budget.account(len(payload))
        self.trim(self._budget.share_bytes())

    def trim(self, share_bytes: int) -> None:
        """Drops the oldest results until at most `share_bytes` are kept."""
        kept, before = self._kept, self._kept_bytes
        while self._kept_bytes > share_bytes:
            oldest = next(iter(kept))
            self._kept_bytes -= len(kept.pop(oldest))
        if before != self._kept_bytes:
            self._budget.account(self._kept_bytes - before)
