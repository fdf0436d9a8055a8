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
    """Bytes that all cohorts together may keep, shared out evenly among those alive."""

    def __init__(self, total_bytes: int, cohort_max_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._cohort_max_bytes = cohort_max_bytes
        self.cohorts = 0

    def share_bytes(self) -> int:
        return min(self._cohort_max_bytes, self._total_bytes // max(1, self.cohorts))


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
        if sequence not in kept:
            kept[sequence] = payload
            self._kept_bytes += len(payload)
        share = self._budget.share_bytes()
        while self._kept_bytes > share:
            oldest = next(iter(kept))
            self._kept_bytes -= len(kept.pop(oldest))
