"""A bound on what many caches together keep in memory, whatever clients do to their number."""

from typing import Protocol


class Cache(Protocol):
    """Something that keeps bytes it can do without, and tells its budget of every change."""

    def trim(self, share_bytes: int) -> None:
        """Drops the oldest until at most `share_bytes` are kept, and accounts for it."""


class CacheBudget:
    """Bytes that all caches together may keep, shared out evenly among those alive. It knows every living cache.

    A cache cuts itself to `share_bytes()` before it accounts for what it took, so `total_bytes` are exceeded only when
    caches that have nothing to do hold more than the share is by now; then all are cut, to a little below it, so that
    where caches come and go all the time not each newcomer makes it look at all of them.
    """

    def __init__(self, total_bytes: int, cache_max_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._cache_max_bytes = cache_max_bytes
        self._caches: set[Cache] = set()
        self.kept_bytes = 0

    def __len__(self) -> int:
        return len(self._caches)

    def __contains__(self, cache: Cache) -> bool:
        return cache in self._caches

    def add(self, cache: Cache) -> None:
        self._caches.add(cache)

    def remove(self, cache: Cache) -> None:
        """Forgets a cache that has ended; what it kept is free. Idempotent."""
        self._caches.discard(cache)
        cache.trim(0)

    def share_bytes(self) -> int:
        return min(self._cache_max_bytes, self._total_bytes // max(1, len(self._caches)))

    def account(self, change_bytes: int) -> None:
        """Notes what a cache keeps more or less."""
        self.kept_bytes += change_bytes
        if change_bytes > 0 and self.kept_bytes > self._total_bytes:
            share = self.share_bytes() * 7 // 8
            for cache in self._caches:
                cache.trim(share)
