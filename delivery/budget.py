"""A bound on what many caches together keep in memory, whatever clients do to their number."""

from typing import Protocol


class Cache(Protocol):
    """Something that keeps bytes that can be dropped at any time, and tells its budget of every change."""

    def trim(self, share_bytes: int) -> None:
        """Drops the oldest entries until at most `share_bytes` are kept, and accounts for it."""


class CacheBudget:
    """Bytes that all caches together may keep, divided evenly among those that exist. It knows every such cache.

    A cache cuts itself to `share_bytes()` before it accounts for what it took. So `total_bytes` are exceeded only when
    idle caches still hold more than today's share. Then all caches are cut to a little below the share: if caches come
    and go all the time, not every new one causes such a cut.
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
        """Forgets a cache that has ended, and frees what it kept. Idempotent."""
        self._caches.discard(cache)
        cache.trim(0)

    def share_bytes(self) -> int:
        return min(self._cache_max_bytes, self._total_bytes // max(1, len(self._caches)))

    def account(self, change_bytes: int) -> None:
        """Notes by how many bytes what a cache keeps has changed."""
        self.kept_bytes += change_bytes
        if change_bytes > 0 and self.kept_bytes > self._total_bytes:
            share = self.share_bytes() * 7 // 8
            for cache in self._caches:
                cache.trim(share)
