"""Answers that are made and not yet taken by their clients: how many bytes of memory they may hold."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from itertools import islice

from errors import Unavailable

ALL_BYTES_MAX = 64 * 1024 * 1024
"""Past it a client that holds more than `SMALL_BYTES` waits."""
CLIENT_BYTES_MAX = 16 * 1024 * 1024
"""Past it a client waits for itself, whatever the others hold."""
SMALL_BYTES = 1024 * 1024
"""So much every client may hold, so that clients who take nothing cannot stop those who do."""
WAIT_SECONDS = 10.0
_WOKEN_AT_ONCE = 8


class Unsent:
    """Counts what answers hold, by client; makes who would hold too much wait before it reads.

    The bounds are looked at before each page is read. So they can be passed by the pages that are being read then: at
    most as many as read at once, each of one page's length.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._by_client: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    def held(self, who: Hashable) -> int:
        """Bytes that the answers to a client hold now."""
        return self._by_client[who]

    def hold(self, who: Hashable, size_bytes: int) -> None:
        """Counts bytes; whoever does so releases them."""
        self.bytes += size_bytes
        self._by_client[who] += size_bytes

    def release(self, who: Hashable, size_bytes: int) -> None:
        """Counts bytes out: they were taken, or thrown away."""
        if not size_bytes:
            return
        self.bytes -= size_bytes
        self._by_client[who] -= size_bytes
        if not self._by_client[who]:
            del self._by_client[who]
        for waiting in list(islice(self._waiting, _WOKEN_AT_ONCE)):
            self._wake(waiting)

    def has_room(self, who: Hashable, own_bytes: int = 0) -> bool:
        """Whether a client may read for another answer, or for one that holds `own_bytes` already."""
        others = self._by_client.get(who, 0) - own_bytes
        return others < SMALL_BYTES or (others < CLIENT_BYTES_MAX and self.bytes - own_bytes < ALL_BYTES_MAX)

    async def room(self, who: Hashable, own_bytes: int = 0) -> None:
        """Returns when the client may read.

        Raises:
            Unavailable: it still may not after `WAIT_SECONDS`.
        """
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while not self.has_room(who, own_bytes):
                    place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self._waiting.setdefault(who, deque()).append(place)
                    await place
        except TimeoutError:
            raise Unavailable("Earlier answers to this client have not been taken.", retry_after_ms=1000) from None

    def _wake(self, who: Hashable) -> None:
        places = self._waiting[who]
        self._waiting.move_to_end(who)
        while places:
            place = places.popleft()
            if not place.done():
                place.set_result(None)
                break
        if not places:
            del self._waiting[who]
