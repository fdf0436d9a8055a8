"""uvicorn's set of open connections, kept in parts, so that nothing has to go through all of them in one loop step."""

from collections.abc import Iterator, MutableSet
from typing import Any

PARTS = 128
"""With 50,000 connections a part has 400."""


class ConnectionSet(MutableSet[Any]):
    """Can do what uvicorn needs of `ServerState.connections`."""

    def __init__(self) -> None:
        self._parts: list[set[Any]] = [set() for _ in range(PARTS)]
        self._size = 0

    def pieces(self, size: int) -> Iterator[list[Any]]:
        """All connections, in pieces of at least `size`, except for the last. A piece has at most one part more.

        Each has the connections of its parts as they are at the moment when it is yielded.
        """
        piece: list[Any] = []
        for part in self._parts:
            piece += part
            if len(piece) >= size:
                yield piece
                piece = []
        yield piece

    def add(self, value: Any) -> None:
        part = self._part(value)
        self._size -= len(part)
        part.add(value)
        self._size += len(part)

    def discard(self, value: Any) -> None:
        part = self._part(value)
        self._size -= len(part)
        part.discard(value)
        self._size += len(part)

    def __contains__(self, value: object) -> bool:
        return value in self._part(value)

    def __iter__(self) -> Iterator[Any]:
        for part in self._parts:
            yield from part

    def __len__(self) -> int:
        return self._size

    def _part(self, value: object) -> set[Any]:
        # Objects of one size have addresses that are multiples of it, so the address alone would fill only a few parts.
        return self._parts[hash((id(value),)) % PARTS]
