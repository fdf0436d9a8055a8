"""A server's hubs: one for each log that a channel has, the same class. Nothing in a hub knows which one it is."""

from collections.abc import Callable, Sequence

from delivery.budget import CacheBudget
from delivery.hub import RESULTS_BYTES, RESULTS_OF_COHORT_BYTES, TAIL_BYTES, TAILS_BYTES, Hub
from delivery.shares import CohortBounds
from message_log.protocol import Commit, MessageLog
from messages import Revocation

CHANGE_PAGES_BYTES = 8 * 1024 * 1024
"""Pages of changes kept for those who come next: few, since they are small and soon behind everybody."""


class Hubs:
    """The hub of messages and the hub of changes. Implements the log's `LogListener`.

    What their channels and cohorts keep has one bound together, and so has the number of cohorts.
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
        """Told of revocations before the subscriptions that they end: connections are closed as wholes."""
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

    async def start(self) -> None:
        """Begins to look after the heads of live channels, where other processes may move them."""
        await self.messages.start()
        await self.changes.start()

    async def stop(self) -> None:
        """Ends every subscription and waits until no task of a hub is left."""
        await self.messages.stop()
        await self.changes.stop()

    def committed(self, commit: Commit) -> None:
        if commit.messages:
            self.messages.committed(commit.messages)
        if commit.changes:
            self.changes.committed(commit.changes)

    def revoked(self, revocations: Sequence[Revocation]) -> None:
        if self.on_revoked is not None:
            self.on_revoked(revocations)
        self.messages.revoked(revocations)
        self.changes.revoked(revocations)

    def missed(self) -> None:
        self.messages.missed()
        self.changes.missed()

    def heard(self, commit: Commit) -> None:
        if commit.messages:
            self.messages.heard(commit.messages)
        if commit.changes:
            self.changes.heard(commit.changes)

    def misheard(self) -> None:
        self.messages.figures.misheard += 1

    def hinted(self, channel_id: str, sequence: int) -> None:
        self.messages.hinted(channel_id, sequence)

    def hinted_changes(self, channel_id: str, sequence: int) -> None:
        self.changes.hinted(channel_id, sequence)
