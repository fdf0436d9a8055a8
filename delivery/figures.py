"""What the engine counts of itself. Plain numbers, read by whoever shows them; nothing here decides anything."""

from bisect import bisect_left
from datetime import UTC, datetime

from delivery.sink import Batch

LATENCY_BOUNDS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCH_BOUNDS_MESSAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Histogram:
    """Counts of observations at most each bound, not cumulated, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times


class Figures:
    """Counters of one hub since it started."""

    def __init__(self) -> None:
        self.messages_delivered = 0
        self.slow_falls = 0
        """Times a subscriber could not take a sweep's batch and fell back to the log."""
        self.catch_up_pages = 0
        self.batch_messages = Histogram(BATCH_BOUNDS_MESSAGES)
        self.latency_seconds = Histogram(LATENCY_BOUNDS_SECONDS)
        """From the log's timestamp to the write, for the newest message of a batch, once per subscriber."""

    def swept(self, batch: Batch, subscribers: int) -> None:
        """A sweep wrote `batch` to so many subscribers of one cohort."""
        if subscribers and batch.payloads:
            self.messages_delivered += subscribers * len(batch.payloads)
            self.batch_messages.observe(len(batch.payloads))
            latency = (datetime.now(UTC) - batch.messages[-1].timestamp).total_seconds()
            self.latency_seconds.observe(max(0.0, latency), subscribers)

    def caught_up(self, batch: Batch) -> None:
        """One subscriber took a page on its way to the head."""
        self.catch_up_pages += 1
        self.messages_delivered += len(batch.payloads)
