"""What the engine counts about itself. These are plain numbers for whoever shows them; nothing is decided by them."""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from delivery.sink import Batch
from message_log.protocol import Entry

LATENCY_BOUNDS_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
BATCH_BOUNDS_MESSAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LAG_BOUNDS_MESSAGES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


class Histogram:
    """How many observations lie between each two bounds (not cumulated), and the sum of all observations."""

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
        self.on_sweep: Callable[[Sequence[Entry], float], None] | None = None
        """Called after each sweep with its entries, and when it began, in seconds since 1970."""
        self.commits = 0
        """Commits of this process that stored at least one message."""
        self.messages_posted = 0
        self.posts_per_commit = Histogram(BATCH_BOUNDS_MESSAGES)
        self.hints = 0
        """Heads that other processes told of, or that the sweep of heads found."""
        self.heard = 0
        """Entries that other processes sent along with their hints."""
        self.misheard = 0
        """Hints that were dropped: they could not be read, or were about another log."""
        self.messages_delivered = 0
        self.slow_falls = 0
        """How often a subscriber could not take a sweep's batch and had to catch up instead."""
        self.catch_up_pages = 0
        self.batch_messages = Histogram(BATCH_BOUNDS_MESSAGES)
        self.latency_seconds = Histogram(LATENCY_BOUNDS_SECONDS)
        """From the log's timestamp to the write, for the newest message of a batch, once per subscriber."""
        self.lag_messages = Histogram(LAG_BOUNDS_MESSAGES)
        """How far behind its channel's head a subscriber was when it took a page."""

    def committed(self, messages: int) -> None:
        """A commit of this process stored so many messages."""
        self.commits += 1
        self.messages_posted += messages
        self.posts_per_commit.observe(messages)

    def swept(self, batch: Batch, subscribers: int) -> None:
        """A sweep wrote `batch` to so many subscribers of one cohort."""
        if subscribers and batch.payloads:
            self.messages_delivered += subscribers * len(batch.payloads)
            self.batch_messages.observe(len(batch.payloads))
            latency = (datetime.now(UTC) - batch.entries[-1].timestamp).total_seconds()
            self.latency_seconds.observe(max(0.0, latency), subscribers)

    def caught_up(self, batch: Batch, lag_messages: int) -> None:
        """One subscriber, `lag_messages` behind, took a page on its way to the head."""
        self.catch_up_pages += 1
        self.lag_messages.observe(lag_messages)
        self.messages_delivered += len(batch.payloads)
