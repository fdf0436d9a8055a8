"""The newest messages of a live channel, kept in memory so that catching up rarely asks the log."""

import sys
from collections.abc import Sequence

from delivery.budget import CacheBudget
from messages import Message

MESSAGE_OVERHEAD_BYTES = 400
"""What a `Message` costs beside its content: the object, its author, lane and provider, its place in a list."""


def size_bytes(message: Message) -> int:
    """About how much memory a message holds, in bytes."""
    return sys.getsizeof(message.content) + MESSAGE_OVERHEAD_BYTES


def cut_page(messages: Sequence[Message], *, start: int, stop: int, max_bytes: int) -> list[Message]:
    """`messages[start:stop]`, cut after the message with which it exceeds `max_bytes`; at least one when there is."""
    total = 0
    for index in range(start, stop):
        total += size_bytes(messages[index])
        if total > max_bytes:
            return list(messages[start : index + 1])
    return list(messages[start:stop])


class Tail:
    """A contiguous run of messages that ends at the channel's head, as many as its share of the budget holds.

    Invariant: `_messages[i + 1].sequence == _messages[i].sequence + 1`.
    """

    __slots__ = ("_budget", "_bytes", "_messages")

    def __init__(self, budget: CacheBudget) -> None:
        self._budget = budget
        self._messages: list[Message] = []
        self._bytes = 0

    def extend(self, messages: Sequence[Message]) -> None:
        """Appends what follows the tail; a gap before it (retention, a skipped stretch) starts the tail anew."""
        held, before = self._messages, self._bytes
        if held and messages and messages[0].sequence != held[-1].sequence + 1:
            held.clear()
            self._bytes = 0
        held.extend(messages)
        self._bytes += sum(map(size_bytes, messages))
        self._cut(self._budget.share_bytes() if self in self._budget else 0)
        self._budget.account(self._bytes - before)

    def trim(self, share_bytes: int) -> None:
        """Drops the oldest messages until at most `share_bytes` are kept, and accounts for it."""
        before = self._bytes
        self._cut(share_bytes)
        if before != self._bytes:
            self._budget.account(self._bytes - before)

    def _cut(self, share_bytes: int) -> None:
        held, dropped = self._messages, 0
        while self._bytes > share_bytes and dropped < len(held):
            self._bytes -= size_bytes(held[dropped])
            dropped += 1
        # Moves the rest, a few thousand pointers: a microsecond. Waiting until half is dead would hold twice the share.
        del held[:dropped]

    def after(self, position: int, *, limit: int, max_bytes: int) -> list[Message] | None:
        """What follows `position`, ascending, at most `limit` messages and about `max_bytes`.

        None when the tail does not reach back that far: the log has it.
        """
        held = self._messages
        if not held or position + 1 < held[0].sequence:
            return None
        start = position + 1 - held[0].sequence
        return cut_page(held, start=start, stop=min(start + limit, len(held)), max_bytes=max_bytes)
