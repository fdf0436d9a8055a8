"""Decides who is next when many wait for the same thing: clients take turns, and so do the connections of a client."""

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from typing import NamedTuple


class Client(NamedTuple):
    """Who asks. `who` is the address and the name from the token; `connection` tells the client's connections apart."""

    who: Hashable
    connection: Hashable = None


NOBODY = Client(None)
"""The server itself, or a client of which nothing is known."""

_NONE = object()


class FairQueue:
    """Lets `at_once` in, and `at_once_per_client` of one client; the others wait.

    Whoever leaves makes room for the client whose turn was longest ago, and among its connections for the one whose
    turn was longest ago. So a client that asks for very much waits for itself, and everybody else waits for at most one
    of its requests. To enter and to leave takes constant time, however many wait.
    """

    def __init__(self, at_once: int, at_once_per_client: int) -> None:
        self._free = at_once
        self._at_once_per_client = at_once_per_client
        self._inside: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, OrderedDict[Hashable, deque[asyncio.Future[None]]]] = OrderedDict()

    def __len__(self) -> int:
        """How many wait."""
        return sum(len(queue) for connections in self._waiting.values() for queue in connections.values())

    async def enter(self, client: Client) -> None:
        """Returns when the client may go on; it must `leave` afterwards. A caller that is cancelled has not entered."""
        if self._free and self._inside[client.who] < self._at_once_per_client:
            # All who wait now belong to clients that have as many inside as they may have.
            self._let_in(client.who)
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        connections = self._waiting.setdefault(client.who, OrderedDict())
        connections.setdefault(client.connection, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave(client)
            raise

    def leave(self, client: Client) -> None:
        """Gives the place back, and lets the next ones in."""
        self._free += 1
        self._inside[client.who] -= 1
        if not self._inside[client.who]:
            del self._inside[client.who]
        while self._free and (place := self._next()) is not None:
            place.set_result(None)

    def _let_in(self, who: Hashable) -> None:
        self._free -= 1
        self._inside[who] += 1

    def _next(self) -> asyncio.Future[None] | None:
        """The place of the next one that may go in; it is counted as inside already. None when nobody may go in."""
        while True:
            # The clients that are passed over have all they may have. There are at most as many as there are places,
            # so the search is short.
            who = next((each for each in self._waiting if self._inside[each] < self._at_once_per_client), _NONE)
            if who is _NONE:
                return None
            place = self._next_of(who)
            if place is not None:
                self._let_in(who)
                return place

    def _next_of(self, who: Hashable) -> asyncio.Future[None] | None:
        """Takes the next place of a client from the queue; None when all of its places were given up."""
        connections = self._waiting[who]
        while connections:
            connection, queue = connections.popitem(last=False)
            place = queue.popleft()
            if queue:
                connections[connection] = queue
            if not place.done():
                if connections:
                    self._waiting.move_to_end(who)
                else:
                    del self._waiting[who]
                return place
        del self._waiting[who]
        return None
