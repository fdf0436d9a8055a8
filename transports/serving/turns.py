"""Turns for parsing what clients send: a bound on how much of one round of the event loop all connections may use.

The client decides how expensive a read is. 256 kB of WebSocket fragments of one byte are 37,000 frames, and a thousand
connections may each have sent a little of that. So each connection parses one slice at a time. Once the slices of a
round have taken `ROUND_SECONDS`, the rest waits. Then addresses take turns, however many connections each has.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Hashable
from time import perf_counter

from uvicorn.server import ServerState

from transports.serving.shared_by_connections import shared

logger = logging.getLogger(__name__)

ROUND_SECONDS = 0.002
"""Time for parsing in one round of the event loop. When it is used up, connections have to wait for a turn."""
REQUEST_SECONDS = 0.00005
"""What a request that was parsed will cost by and by, at least: a post costs the event loop that much. It is counted
when it begins, so that a thousand do not begin in one round. With twice as much, sixteen posts that come at once filled
a round, and those that had to wait cost 7 % more."""
HANDSHAKE_SECONDS = 0.0001
"""The same for a request that asks for another protocol. When 5,000 WebSockets were opened at once and this was half as
much, messages reached the others after 65 ms instead of 40."""
BODY_BYTE_SECONDS = 20e-9
"""What a byte of a body or WebSocket message costs whoever reads it, at least where it is most expensive. It is counted
when the last byte has come, so that of those of a megabyte one is read in each round."""
URL_BYTE_SECONDS = 250e-9
"""What a byte of a URL costs: it may hold nothing but short parameters."""

Waiting = dict[Hashable, deque[Callable[[], None]]]


class Turns:
    """Shared by the connections of one server: `turns_of`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._fresh: Waiting = {}
        self._rests: Waiting = {}
        self._next_round: asyncio.Handle | None = None
        self.spent_seconds = 0.0
        """How much time this round has taken so far. Parsing without a turn is added by `note`."""

    def has_time(self) -> bool:
        """Whether something may be parsed now, without asking for a turn."""
        return self.spent_seconds < ROUND_SECONDS

    def note(self, seconds: float) -> None:
        """Counts time that was used without a turn."""
        self.spent_seconds += seconds
        if self._next_round is None:
            self._next_round = self._loop.call_soon(self._take_round)

    def ask(self, client: Hashable, work: Callable[[], None], *, rest: bool = False) -> None:
        """Calls `work` in a turn of that client: soon, but never within this call.

        `work` handles one slice. For the `rest` it calls `ask` again, and waits for all others. If it raises, that is
        logged, and all others still get their turns.
        """
        (self._rests if rest else self._fresh).setdefault(client, deque()).append(work)
        if self._next_round is None:
            self._next_round = self._loop.call_soon(self._take_round)

    def _take_round(self) -> None:
        self._next_round = None
        self.spent_seconds = 0.0
        while self.spent_seconds < ROUND_SECONDS and (waiting := self._fresh or self._rests):
            client = next(iter(waiting))
            works = waiting.pop(client)
            work = works.popleft()
            if works:
                waiting[client] = works  # At the end, after all others.
            began = perf_counter()
            try:
                work()
            except Exception:
                logger.exception("a turn failed")
            self.spent_seconds += perf_counter() - began
        if self._next_round is None and (self._fresh or self._rests or self.spent_seconds):
            self._next_round = self._loop.call_soon(self._take_round)


def turns_of(server_state: ServerState) -> Turns:
    """The turns that all connections of a server share."""
    return shared(server_state, Turns)
