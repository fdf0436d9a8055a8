"""How much memory answers may take that are made and that their clients have not taken yet."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from itertools import islice

from errors import Unavailable

ALL_BYTES_MAX = 64 * 1024 * 1024
"""When all together hold more than this, a client that holds more than `SMALL_BYTES` waits."""
CLIENT_BYTES_MAX = 16 * 1024 * 1024
"""When a client holds more than this, it waits, whatever the others hold."""
SMALL_BYTES = 1024 * 1024
"""Every client may always hold this much. So clients that do not read cannot stop those that do."""
WAIT_SECONDS = 10.0
_WOKEN_AT_ONCE = 8


class UntakenAnswers:
    """Counts what answers hold, by client. A client that would hold too much has to wait before it reads.

    The bounds are checked before each page is read. So they can be exceeded by the pages that are being read at that
    time: by as many pages as are read at once.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._by_client: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    def held(self, who: Hashable) -> int:
        """Bytes that the answers to a client hold now."""
        return self._by_client[who]

    def hold(self, who: Hashable, size_bytes: int) -> None:
        """Counts bytes. Whoever calls this releases them later."""
        self.bytes += size_bytes
        self._by_client[who] += size_bytes

    def release(self, who: Hashable, size_bytes: int) -> None:
        """Stops counting bytes: they were taken by the client, or thrown away."""
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
            Unavailable: after `WAIT_SECONDS` it still may not.
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
