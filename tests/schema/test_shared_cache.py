"""What one client can do to a cache that all share."""

from schema.shared_cache import SharedCache


def filled(cache: SharedCache[int], who: str, count: int, size: int = 10) -> list[str]:
    keys = [f"{who}{number}" for number in range(count)]
    for number, key in enumerate(keys):
        cache.put(key, number, size, who)
    return keys


def test_client_that_brings_ever_new_texts_drives_out_its_own() -> None:
    cache: SharedCache[int] = SharedCache(1000)
    theirs = filled(cache, "they", 30)
    mine = filled(cache, "me", 500)
    assert all(key in cache for key in theirs)
    assert [key for key in mine if key in cache] == mine[-50:], "half of the cache, the newest"


def test_text_that_two_clients_use_belongs_to_neither() -> None:
    cache: SharedCache[int] = SharedCache(1000)
    shared = filled(cache, "me", 20)
    assert [cache.get(key, "they") for key in shared] == list(range(20))
    filled(cache, "me", 70)
    assert all(key in cache for key in shared)


def test_text_that_is_padded_is_not_kept() -> None:
    cache: SharedCache[int] = SharedCache(1000)
    keys = filled(cache, "they", 50)
    cache.put("padded", 1, 900, "me")
    assert "padded" not in cache
    assert all(key in cache for key in keys)


def test_cache_is_bounded_and_the_longest_unused_go_first() -> None:
    cache: SharedCache[int] = SharedCache(1000)
    for who in range(100):
        filled(cache, f"client {who}, ", 3)
        cache.get("client 0, 0", "client 0, ")
    assert len(cache) == 100
    assert "client 0, 0" in cache
    assert "client 0, 1" not in cache
    assert sum(map(len, cache._owned.values())) == 100
    assert sum(cache._owned_characters.values()) == 1000
