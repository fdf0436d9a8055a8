"""Bounds how many lines a client can have written into the log."""


class PerMinute:
    """Admits so many events a minute and counts the others."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._since = float("-inf")
        self._admitted = 0
        self._left_out = 0

    def admit(self, now: float) -> str | None:
        """What the line adds about those that were left out before it, usually nothing. None: leave this one out too.

        `now` is in seconds.
        """
        if not 0 <= now - self._since < 60:
            self._since, self._admitted = now, 0
        if self._admitted >= self._events:
            self._left_out += 1
            return None
        self._admitted += 1
        left_out, self._left_out = self._left_out, 0
        return f" ({left_out} more were not told)" if left_out else ""
