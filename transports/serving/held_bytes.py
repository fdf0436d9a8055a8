"""What the connections of one server hold of requests and messages that are not complete, or wait for their turn."""

FREE_BYTES = 16 * 1024
"""What a connection may always hold, however much the others hold: short requests work while somebody fills the
rest."""
HELD_BYTES_MAX = 256 * 1024 * 1024


class HeldBytes:
    """Counts these bytes, for HTTP and WebSocket. Otherwise 20,000 connections could hold 20,000 bodies of 1 MiB."""

    __slots__ = ("bytes_max", "total")

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self.total = 0

    def change(self, before: int, after: int) -> bool:
        """A connection that held `before` bytes holds `after`. False: that is too much, and it has to drop them."""
        self.total += after - before
        return after <= before or after <= FREE_BYTES or self.total <= self.bytes_max
