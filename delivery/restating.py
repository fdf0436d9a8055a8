"""Entries that are stated anew: they have changed in the log, and what is kept of them, or on its way, must follow.

Whoever states an entry anew names its place, and a function that makes the new entry from the old one. The function
returns None if the old entry is not enough for that: then the log has to be read.
"""

from collections.abc import Callable, Collection, Sequence

from message_log.protocol import Entry

Restated = Callable[[Entry], Entry | None]
"""The entry as it stands now; the same object where it has not changed; None where it has to be read again."""
Places = Collection[int] | None
"""Sequences that were stated anew; None when it may be any."""


class Watch:
    """Notes what is stated anew while a stretch of entries is on its way from the log to subscribers: inside `with`."""

    __slots__ = ("_all", "_notes")

    def __init__(self, all_watches: "set[Watch]") -> None:
        self._all = all_watches
        self._notes: list[tuple[Places, Restated]] = []

    def __enter__(self) -> "Watch":
        self._all.add(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._all.discard(self)

    def note(self, places: Places, restated: Restated) -> None:
        self._notes.append((places, restated))

    def touches(self, first: int, last: int) -> bool:
        """Whether something from `first` to `last` was stated anew since the watch began or was last applied."""
        if not self._notes:
            return False
        return any(places is None or any(first <= place <= last for place in places) for places, _ in self._notes)

    def apply(self, entries: Sequence[Entry]) -> Sequence[Entry] | None:
        """The entries as they stand now; None when they have to be read again."""
        notes, self._notes = self._notes, []
        if not notes or not entries:
            return entries
        standing = {entry.sequence: entry for entry in entries}
        for places, restated in notes:
            for place in list(standing) if places is None else places:
                if place in standing:
                    now = restated(standing[place])
                    if now is None:
                        return None
                    standing[place] = now
        return list(standing.values())


class Watches:
    """The watches of one channel: one for each stretch that is on its way."""

    __slots__ = ("_watches",)

    def __init__(self) -> None:
        self._watches: set[Watch] = set()

    def watching(self) -> Watch:
        return Watch(self._watches)

    def note(self, places: Places, restated: Restated) -> None:
        for watch in self._watches:
            watch.note(places, restated)
