"""Work in the background for messages that grow and for messages that were erased.

A message to which nobody has appended for a while is completed, so that no reader waits for an author who has gone. And
what was erased is overwritten in the log's files, if readers were in the way at first.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from changes import ChangeDraft, MessageChangeKind
from errors import RaqcoonError, Unavailable
from message_log.protocol import MessageLog
from message_log.rounds import Rounds

MESSAGES_PER_READ = 500


@dataclass(frozen=True, slots=True)
class GrowthPolicy:
    """After how long without a new piece a message is completed, and how often this is checked."""

    growing_timeout_seconds: float = field(default=600.0, metadata={"setting": "growing_timeout_seconds"})
    interval_seconds: float = 1.0


class Growth(Rounds):
    """Completes messages that were left unfinished. All nodes that share a log may run it: a message is completed
    once."""

    def __init__(
        self, log: MessageLog, policy: GrowthPolicy, *, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        super().__init__(
            "growth",
            "%d messages that nobody appended to any more were completed",
            interval_seconds=policy.interval_seconds,
            unavailable_level=logging.DEBUG,
        )
        self._log = log
        self._policy = policy
        self._now = now

    async def run_once(self) -> int:
        """One round; returns how many messages were completed.

        Raises:
            Unavailable: the log cannot answer; what was completed stays complete.
        """
        await self._log.scrub()
        before = self._now() - timedelta(seconds=self._policy.growing_timeout_seconds)
        completed = 0
        while left := await self._log.growing_since(before, limit=MESSAGES_PER_READ):
            done = await asyncio.gather(*(self._complete(*each) for each in left))
            completed += sum(done)
            if not any(done):
                break
        return completed

    async def _complete(self, channel_id: str, sequence: int, revision: int) -> bool:
        draft = ChangeDraft(channel_id, sequence, MessageChangeKind.COMPLETED, revision=revision)
        try:
            return (await self._log.change(draft)).created
        except Unavailable:
            raise
        except RaqcoonError:  # It has grown meanwhile, or retention has removed it.
            return False
