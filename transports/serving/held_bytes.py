"""What the connections of one server hold of requests and messages that are not complete, or wait for their turn."""

FREE_BYTES = 16 * 1024
"""What a connection may hold however much others do: short requests go on while somebody fills the rest."""
HELD_BYTES_MAX = 256 * 1024 * 1024


class HeldBytes:
    """Counts them, over HTTP and WebSocket. 20,000 connections could otherwise hold as many bodies of 1 MiB."""

    __slots__ = ("bytes_max", "total")

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.total = 0

    def change(self, before: int, after: int) -> bool:
        """A connection holds `after` bytes, and held `before`. False: that is too much now, and it has to let go."""
        self.total += after - before
        return after <= before or after <= FREE_BYTES or self.total <= self.bytes_max
