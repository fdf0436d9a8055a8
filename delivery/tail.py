"""The newest entries of a live channel, kept in memory so that catching up rarely asks the log."""

from collections.abc import Callable, Sequence
from operator import attrgetter

from delivery.budget import CacheBudget
from delivery.restating import Places, Restated
from message_log.protocol import Entry

size_bytes: Callable[[Entry], int] = attrgetter("size_bytes")
"""About how much memory an entry holds, in bytes."""


def cut_page(entries: Sequence[Entry], *, start: int, stop: int, max_bytes: int) -> list[Entry]:
    """`entries[start:stop]`, cut after the entry with which it exceeds `max_bytes`; at least one when there is."""
    total = 0
    for index in range(start, stop):
        total += size_bytes(entries[index])
        if total > max_bytes:
            return list(entries[start : index + 1])
    return list(entries[start:stop])


class Tail:
    """A contiguous run of entries that ends at the channel's head, as many as its share of the budget holds.

    Invariant: `_entries[i + 1].sequence == _entries[i].sequence + 1`.
    """

    __slots__ = ("_budget", "_bytes", "_entries")

    def __init__(self, budget: CacheBudget) -> None:
        self._budget = budget
        self._entries: list[Entry] = []
        self._bytes = 0

    def extend(self, entries: Sequence[Entry]) -> None:
        """Appends what follows the tail. If there is a gap before it (retention, a skipped stretch), the tail begins
        again with it."""
        held, before = self._entries, self._bytes
        if held and entries and entries[0].sequence != held[-1].sequence + 1:
            held.clear()
            self._bytes = 0
        held.extend(entries)
        self._bytes += sum(map(size_bytes, entries))
        self._cut(self._budget.share_bytes() if self in self._budget else 0)
        self._budget.account(self._bytes - before)

    def trim(self, share_bytes: int) -> None:
        """Drops the oldest entries until at most `share_bytes` are kept, and accounts for it."""
        before = self._bytes
        self._cut(share_bytes)
        if before != self._bytes:
            self._budget.account(self._bytes - before)

    def restate(self, places: Places, restated: Restated) -> None:
        """Replaces entries that were stated anew. One that has to be read from the log is dropped with everything
        before it, since the tail has no gap."""
        held = self._entries
        if not held:
            return
        before, first, lost = self._bytes, held[0].sequence, 0
        for index in range(len(held)) if places is None else (place - first for place in places):
            if 0 <= index < len(held):
                now = restated(held[index])
                if now is None:
                    lost = max(lost, index + 1)
                elif now is not held[index]:
                    self._bytes += size_bytes(now) - size_bytes(held[index])
                    held[index] = now
        self._bytes -= sum(map(size_bytes, held[:lost]))
        del held[:lost]
        self._budget.account(self._bytes - before)

    def _cut(self, share_bytes: int) -> None:
        held, dropped = self._entries, 0
        while self._bytes > share_bytes and dropped < len(held):
            self._bytes -= size_bytes(held[dropped])
            dropped += 1
        # Moves the rest, a few thousand pointers, in a microsecond. If it waited until half could be dropped, the tail
        # would hold twice its share.
        del held[:dropped]

    def after(self, position: int, *, limit: int, max_bytes: int) -> list[Entry] | None:
        """What follows `position`, ascending, at most `limit` entries and about `max_bytes`.

        None when the tail does not reach back that far: the log has it.
        """
        held = self._entries
        if not held or position + 1 < held[0].sequence:
            return None
        start = position + 1 - held[0].sequence
        return cut_page(held, start=start, stop=min(start + limit, len(held)), max_bytes=max_bytes)
