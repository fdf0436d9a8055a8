"""A bounded cache that all clients share and that none of them can empty."""

from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")

ENTRY_SHARE = 32
"""An entry that is longer than this part of the cache is not kept: a padded one would displace hundreds of others."""
CLIENT_SHARE = 2
"""The entries that only one client uses may take this part of the cache. Past it, its own entries are dropped first."""


class SharedCache(Generic[V]):
    """Texts and what was made of them, bounded in characters. The longest unused are dropped first.

    An entry belongs to the client that brought it, until another client uses it too: then it belongs to all. So a
    client that brings new texts all the time displaces only its own, and what others use stays. Client None, the server
    itself, owns nothing.
    """

    def __init__(self, characters_max: int) -> None:
        self._characters_max = characters_max
        self._characters = 0
        self._kept: OrderedDict[str, tuple[V, int, Hashable]] = OrderedDict()
        self._owned: dict[Hashable, OrderedDict[str, None]] = {}
        self._owned_characters: Counter[Hashable] = Counter()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def get(self, key: str, who: Hashable = None) -> V | None:
        """The value of a key that the client `who` uses now; None if there is none."""
        entry = self._kept.get(key)
        if entry is None:
            return None
        value, size, owner = entry
        if owner is not None:
            if owner == who:
                self._owned[owner].move_to_end(key)
            else:
                self._disown(key, size, owner)
                self._kept[key] = (value, size, None)
        self._kept.move_to_end(key)
        return value

    def put(self, key: str, value: V, size: int, who: Hashable = None) -> None:
        """Keeps a value whose text has `size` characters, unless it is too long to be kept."""
        if size * ENTRY_SHARE > self._characters_max or key in self._kept:
            return
        while who is not None and (self._owned_characters[who] + size) * CLIENT_SHARE > self._characters_max:
            self._drop(next(iter(self._owned[who])))
        while self._characters + size > self._characters_max:
            self._drop(next(iter(self._kept)))
        self._kept[key] = (value, size, who)
        self._characters += size
        if who is not None:
            self._owned.setdefault(who, OrderedDict())[key] = None
            self._owned_characters[who] += size

    def clear(self) -> None:
        """Forgets everything."""
        for key in list(self._kept):
            self._drop(key)

    def _drop(self, key: str) -> None:
        _, size, owner = self._kept.pop(key)
        self._characters -= size
        if owner is not None:
            self._disown(key, size, owner)

    def _disown(self, key: str, size: int, owner: Hashable) -> None:
        del self._owned[owner][key]
        self._owned_characters[owner] -= size
        if not self._owned[owner]:
            del self._owned[owner], self._owned_characters[owner]
