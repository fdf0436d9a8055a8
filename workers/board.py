"""Memory that all processes of a server share: what is counted for the server as a whole.

It is made before the first fork and belongs to no file. There are no locks: each process writes its own part and reads
the parts of the others. When two act in the same microsecond, a count may be wrong by one.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from hashlib import blake2b

ADDRESS_ROWS, ADDRESS_CELLS = 3, 65_536
"""Where a worker counts connections by address: an address has a cell in each row, and the least of its cells is its
count. With 10,000 addresses at each worker, one address in 300 counts as a few more connections than it has."""
RATE_ROWS, RATE_CELLS = 4, 262_144
"""Where all workers keep token buckets. With 5,000 authors within the time that a bucket takes to fill, one author in
ten million shares all his cells with others, and gets less than his rate."""
FIGURES_BYTES = 128 * 1024
"""Room for the figures of a process, in two halves: while one is written, the other one can be read."""
_SLACK_SECONDS = 1e-6
"""How far a sum of intervals in floating point may be off."""
_LENGTH = struct.Struct("=QQ")
_KEY = os.urandom(16)


def _cells(subject: str, rows: int, cells: int) -> Iterator[int]:
    digest = blake2b(subject.encode("utf-8", "surrogatepass"), digest_size=4 * rows, key=_KEY).digest()
    for row in range(rows):
        yield row * cells + int.from_bytes(digest[4 * row : 4 * row + 4], "little") % cells


class Board:
    """The memory of `processes` processes, each of which has an index."""

    def __init__(self, processes: int) -> None:
        self.connections = Tally(processes)
        """TCP connections, by the address at the other end."""
        self.sockets = Tally(processes)
        """WebSockets and streams, by the address that proxies tell."""
        self._figures = mmap.mmap(-1, processes * FIGURES_BYTES)

    def clear(self, index: int) -> None:
        """Forgets the connections of a process that has ended. Its figures stay for its successor."""
        self.connections.clear(index)
        self.sockets.clear(index)

    def write_figures(self, index: int, figures: bytes) -> bool:
        """Keeps the figures of a process beyond its end; False when they are too long."""
        half = FIGURES_BYTES // 2 - _LENGTH.size
        if len(figures) > half:
            return False
        start = index * FIGURES_BYTES
        turn = max(self._turn(start), self._turn(start + FIGURES_BYTES // 2)) + 1
        start += (turn % 2) * (FIGURES_BYTES // 2)
        _LENGTH.pack_into(self._figures, start, 0, 0)
        self._figures[start + _LENGTH.size : start + _LENGTH.size + len(figures)] = figures
        _LENGTH.pack_into(self._figures, start, turn, len(figures))
        return True

    def figures(self, index: int) -> bytes:
        """The figures that were kept last; empty when there are none."""
        first = index * FIGURES_BYTES
        start = max((first, first + FIGURES_BYTES // 2), key=self._turn)
        _, length = _LENGTH.unpack_from(self._figures, start)
        return self._figures[start + _LENGTH.size : start + _LENGTH.size + length]

    def _turn(self, start: int) -> int:
        turn: int = _LENGTH.unpack_from(self._figures, start)[0]
        return turn


class Tally:
    """Connections of each process, in all and by address."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._inside_memory = mmap.mmap(-1, max(8 * processes, mmap.PAGESIZE))
        self._inside = memoryview(self._inside_memory).cast("q")
        self._size = ADDRESS_ROWS * ADDRESS_CELLS
        self._memory = mmap.mmap(-1, 4 * self._size * processes)
        self._by_address = memoryview(self._memory).cast("I")

    def clear(self, index: int) -> None:
        self._inside[index] = 0
        start, size = 4 * self._size * index, 4 * self._size
        blank = bytes(mmap.PAGESIZE)
        for page in range(start, start + size, mmap.PAGESIZE):
            if self._memory[page : page + mmap.PAGESIZE] != blank:
                self._memory[page : page + mmap.PAGESIZE] = blank

    def of(self, index: int) -> "Elsewhere":
        """The tally as one process sees it."""
        return Elsewhere(self, index)

    def add(self, index: int, address: str | None, count: int) -> None:
        self._inside[index] += count
        if address is not None:
            for cell in _cells(address, ADDRESS_ROWS, ADDRESS_CELLS):
                place = index * self._size + cell
                self._by_address[place] = max(0, self._by_address[place] + count)

    def inside(self, but: int) -> int:
        return sum(self._inside[index] for index in range(self._processes) if index != but)

    def at(self, address: str, but: int) -> int:
        cells = list(_cells(address, ADDRESS_ROWS, ADDRESS_CELLS))
        return sum(
            min(self._by_address[index * self._size + cell] for cell in cells)
            for index in range(self._processes)
            if index != but
        )


class Elsewhere:
    """How many connections the other workers have. They are told of this one's."""

    def __init__(self, tally: Tally, index: int) -> None:
        self._tally = tally
        self._index = index

    def entered(self, address: str | None) -> None:
        self._tally.add(self._index, address, 1)

    def left(self, address: str | None) -> None:
        self._tally.add(self._index, address, -1)

    def inside(self) -> int:
        """Connections of all other workers."""
        return self._tally.inside(self._index)

    def at(self, address: str) -> int:
        """Connections from one address at all other workers: perhaps a few too many, but never too few."""
        return self._tally.at(address, self._index)


class Buckets:
    """Token buckets that all workers take from, each `burst` deep and refilled `per_second`.

    Of a bucket only the time is stored at which it will be full again, in seconds of the system's monotonic clock. If
    two workers take a token in the same microsecond, it may count once.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval_seconds = 1 / per_second
        self._depth_seconds = burst / per_second
        self._memory = mmap.mmap(-1, 8 * RATE_ROWS * RATE_CELLS)
        self._full_at = memoryview(self._memory).cast("d")

    def wait_seconds(self, subject: str, now: float) -> float:
        """How long until the subject's bucket holds a token: 0.0 when it holds one at `now`."""
        full_at = min(self._full_at[cell] for cell in _cells(subject, RATE_ROWS, RATE_CELLS))
        wait = full_at - now + self._interval_seconds - self._depth_seconds
        return wait if wait > _SLACK_SECONDS else 0.0

    def take(self, subject: str, now: float) -> None:
        """Takes a token. The caller has made sure that there is one."""
        cells = list(_cells(subject, RATE_ROWS, RATE_CELLS))
        full_at = max(min(self._full_at[cell] for cell in cells), now) + self._interval_seconds
        for cell in cells:
            self._full_at[cell] = max(self._full_at[cell], full_at)

    def give_back(self, subject: str) -> None:
        """Puts a token back that was taken."""
        cells = list(_cells(subject, RATE_ROWS, RATE_CELLS))
        full_at = min(self._full_at[cell] for cell in cells)
        for cell in cells:
            if self._full_at[cell] == full_at:
                self._full_at[cell] = full_at - self._interval_seconds
