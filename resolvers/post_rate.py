"""How fast clients may post: a token bucket for each author and one for each client address, in bounded memory."""

import math
from collections import OrderedDict
from typing import Protocol

from errors import RateLimited

SUBJECTS_MAX = 100_000
"""Authors, and addresses, whose buckets are kept at once: about 20 MB when all of them post. Past it the one that has
not posted for the longest time gets a full bucket."""
_SLACK_SECONDS = 1e-6
"""How far a sum of intervals in floating point may be off."""


class TokenBuckets(Protocol):
    """What each subject may still post; see `Buckets`."""

    def wait_seconds(self, subject: str, now: float) -> float: ...

    def take(self, subject: str, now: float) -> None: ...

    def give_back(self, subject: str) -> None: ...


def burst_of(posts_per_second: float) -> int:
    """What may be posted at once: what a second allows, and one message at least."""
    return max(1, math.floor(posts_per_second))


class Buckets:
    """Token buckets that all have one size, refilled evenly.

    A bucket is one number: the time at which it will be full again (the generic cell rate algorithm). A full one need
    not be kept, so memory is only used for those who have posted within the last `burst / per_second` seconds.
    """

    def __init__(self, per_second: float, burst: int, *, subjects_max: int = SUBJECTS_MAX) -> None:
        self._interval_seconds = 1 / per_second
        self._depth_seconds = burst / per_second
        self._subjects_max = subjects_max
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_seconds(self, subject: str, now: float) -> float:
        """How long until the subject's bucket holds a token: 0.0 when it holds one at `now`."""
        filling = self._full_at.get(subject, 0.0) - now
        wait = filling + self._interval_seconds - self._depth_seconds
        return wait if wait > _SLACK_SECONDS else 0.0

    def take(self, subject: str, now: float) -> None:
        """Takes a token. The caller has made sure that there is one."""
        kept = self._full_at
        kept[subject] = max(kept.get(subject, 0.0), now) + self._interval_seconds
        kept.move_to_end(subject)
        # At most two are dropped for each one that is added, so that no single post has to drop very many.
        for _ in range(2):
            oldest = next(iter(kept))
            if kept[oldest] > now and len(kept) <= self._subjects_max:
                break
            del kept[oldest]
            if not kept:
                break

    def give_back(self, subject: str) -> None:
        """Puts a token back that was taken."""
        if subject in self._full_at:
            self._full_at[subject] -= self._interval_seconds


class PostRate:
    """The posting rate of a server.

    Args:
        posts_per_second: how many messages a second each author, and each address, may post on average. At once they
            may post as many as one second allows, and at least one.
        subjects_max: buckets kept of each kind.
        authors, addresses: buckets of this rate that other processes take from too; None for this process's own.
    """

    def __init__(
        self,
        posts_per_second: float,
        *,
        subjects_max: int = SUBJECTS_MAX,
        authors: TokenBuckets | None = None,
        addresses: TokenBuckets | None = None,
    ) -> None:
        self._posts_per_second = posts_per_second
        self.burst = burst_of(posts_per_second)
        self._authors = authors or Buckets(posts_per_second, self.burst, subjects_max=subjects_max)
        self._addresses = addresses or Buckets(posts_per_second, self.burst, subjects_max=subjects_max)

    def charge(self, author: str, address: str | None, now: float) -> None:
        """Counts a post at `now`, in seconds of a clock that never goes back. `address` None is not counted.

        Raises:
            RateLimited: the author or the address has none left; nothing was counted.
        """
        wait_author = self._authors.wait_seconds(author, now)
        wait_address = 0.0 if address is None else self._addresses.wait_seconds(address, now)
        if wait_author or wait_address:
            subject = "author" if wait_author >= wait_address else "address"
            wait_ms = math.ceil((max(wait_author, wait_address) - _SLACK_SECONDS) * 1000)
            raise RateLimited(subject, self._posts_per_second, wait_ms)
        self._authors.take(author, now)
        if address is not None:
            self._addresses.take(address, now)

    def give_back(self, author: str, address: str | None) -> None:
        """Takes back what `charge` has counted, because the post turned out to be a repeat."""
        self._authors.give_back(author)
        if address is not None:
            self._addresses.give_back(address)
