"""Which JSON may take long to read. It is read in turns (`schema.turns`), as unknown documents are.

A body of 1 MiB may hold 260,000 short strings, and reading it takes 12 ms. Sixteen of them that came at once would keep
the loop for 200 ms. In turns, one is read at a time, all of them together get at most a quarter of the loop, and
clients take turns.
"""

from transports.wire.json_codec import separators

HEAVY_SEPARATORS = 2_000
"""Commas and opening brackets, wherever they stand. A text that has no more is read in half a millisecond."""
HEAVY_BYTES = 128 * 1024
"""A longer text is heavy, whatever is in it."""
HEAVY_QUERY_BYTES = 4 * 1024
"""A longer query string is heavy: reading 64 KiB of short parameters takes 18 ms."""


def is_heavy(text: str | bytes) -> bool:
    """Whether a JSON text may take long to read, as far as that can be seen without reading it."""
    size = len(text)
    return size > HEAVY_SEPARATORS and (size > HEAVY_BYTES or separators(text) > HEAVY_SEPARATORS)
