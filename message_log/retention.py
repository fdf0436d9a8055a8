"""Retention: removes what is too old or too much, in the background. Nothing is removed unless a policy says so."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from message_log.rounds import Rounds
from message_log.sql import SqlMessageLog

_CHANNELS_PAGE = 500
ROUND_SHARE = 0.05
"""The share of the time that rounds may take. With many channels, rounds come less often."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """What each channel keeps. None keeps everything.

    Attributes:
        max_age_seconds: older messages are removed.
        max_messages: of each channel, only this many of the newest messages stay.
        interval_seconds: how long to rest between two rounds at least.
        batch: how many messages one transaction removes, at most.
    """

    max_age_seconds: float | None = field(default=None, metadata={"setting": "retention_max_age_seconds"})
    max_messages: int | None = field(default=None, metadata={"setting": "retention_max_messages"})
    interval_seconds: float = 5.0
    batch: int = 500

    def __post_init__(self) -> None:
        if self.max_age_seconds is not None and self.max_age_seconds <= 0:
            raise ValueError("max_age_seconds must be positive")
        if self.max_messages is not None and self.max_messages < 1:
            raise ValueError("max_messages must be positive")

    @property
    def removes(self) -> bool:
        return self.max_age_seconds is not None or self.max_messages is not None


class Retention(Rounds):
    """Keeps a log to a policy. Nodes that share a log may all run it: they remove the same messages."""

    def __init__(
        self,
        log: SqlMessageLog,
        policy: RetentionPolicy,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        super().__init__(
            "retention",
            "retention removed %d messages",
            interval_seconds=policy.interval_seconds,
            share_max=ROUND_SHARE,
        )
        self._log = log
        self._policy = policy
        self._now = now

    def start(self) -> None:
        """Begins rounds in the background, unless the policy removes nothing."""
        if self._policy.removes:
            super().start()

    async def run_once(self) -> int:
        """One round over all channels; returns how many messages were removed.

        Raises:
            Unavailable: the log cannot answer; what was removed stays removed.
        """
        removed = 0
        if self._policy.max_age_seconds is not None:
            oldest = self._now() - timedelta(seconds=self._policy.max_age_seconds)
            removed += await self._log.remove_older_than(oldest, batch=self._policy.batch)
        if self._policy.max_messages is not None:
            removed += await self._remove_surplus(self._policy.max_messages)
        return removed

    async def _remove_surplus(self, max_messages: int) -> int:
        removed = 0
        after: str | None = None
        while page := await self._log.stretches(after=after, limit=_CHANNELS_PAGE):
            for held in page:
                first = held.last_sequence - max_messages + 1
                if held.oldest_sequence < first:
                    removed += await self._log.remove_before(held.channel_id, first, batch=self._policy.batch)
            after = page[-1].channel_id
        return removed
