"""How many cohorts a channel may have, and how many of them one client may have opened.

Every sweep of a channel looks at each of its cohorts. Without a bound, one client with ten thousand filters would make
everybody in a busy channel wait.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from errors import TooManyFilters


@dataclass(frozen=True, slots=True)
class CohortBounds:
    """Bounds on the cohorts of one channel. They hold for those without a filter, and separately for those with one."""

    channel: int = 1_000
    client: int = 100


class Shares:
    """The cohorts of one kind in one channel. Each counts for the client that opened it, as long as it exists.

    A client that joins an existing cohort is not counted, since that costs nothing.
    """

    __slots__ = ("_bounds", "_by_client", "total")

    def __init__(self, bounds: CohortBounds) -> None:
        self._bounds = bounds
        self._by_client: Counter[Hashable] | None = None
        self.total = 0

    def take(self, client: Hashable) -> None:
        """Counts one more for `client`; None is counted for the channel alone.

        Raises:
            TooManyFilters: the channel or the client has as many as it may have.
        """
        if self.total >= self._bounds.channel:
            raise TooManyFilters("This channel has", self._bounds.channel)
        if client is not None:
            if self._by_client is None:
                self._by_client = Counter()
            if self._by_client[client] >= self._bounds.client:
                raise TooManyFilters("In this channel your client has", self._bounds.client)
            self._by_client[client] += 1
        self.total += 1

    def give_back(self, client: Hashable) -> None:
        """Counts one cohort less."""
        self.total -= 1
        if client is not None and self._by_client is not None:
            self._by_client[client] -= 1
            if not self._by_client[client]:
                del self._by_client[client]
