"""Pages of history that were read a moment ago, and the results made of them. Clients that ask for the same page share
both.

Pages are kept only if no other process appends. Then this process hears of every commit before it is acknowledged, and
forgets what it kept of that channel. So a client always sees everything that was acknowledged before it asked. What no
commit tells (retention) becomes visible after `KEPT_SECONDS`.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from message_log.protocol import StoredPage

KEPT_SECONDS = 0.25
PAGES_MAX = 256
PAGE_BYTES_MAX = 128 * 1024
"""Longer pages are not kept, and neither are longer results. All together take 64 MiB at most."""
MADE_MAX = 2
"""How many different results are kept of one page."""


@dataclass(slots=True)
class RecentPage:
    """A page, when it was read, and the results made of its messages, each by what it was made for."""

    stored: StoredPage
    read_at: float
    made: dict[Hashable, bytes] = field(default_factory=dict)

    def keep(self, made_for: Hashable, made: bytes) -> None:
        if len(self.made) < MADE_MAX and len(made) <= PAGE_BYTES_MAX:
            self.made[made_for] = made


class RecentPages:
    """The pages, by channel and by what was asked for. When there are too many, the longest unused is dropped."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pages: OrderedDict[tuple[str, Hashable], RecentPage] = OrderedDict()
        self._of_channel: dict[str, set[Hashable]] = {}
        self._reading: dict[str, set[object]] = {}

    def __len__(self) -> int:
        return len(self._pages)

    def find(self, channel_id: str, asked: Hashable) -> RecentPage | None:
        page = self._pages.get((channel_id, asked))
        if page is None or self._clock() - page.read_at > KEPT_SECONDS:
            return None
        self._pages.move_to_end((channel_id, asked))
        return page

    def begin(self, channel_id: str) -> object:
        """Notes that a page of the channel is about to be read. Returns a token for `keep`."""
        token = object()
        self._reading.setdefault(channel_id, set()).add(token)
        return token

    def keep(self, channel_id: str, asked: Hashable, token: object, stored: StoredPage | None) -> RecentPage | None:
        """Keeps a page that was read, unless the channel was changed since `begin`. `stored` is None if the read has
        failed."""
        reading = self._reading.get(channel_id)
        if reading is None or token not in reading:
            return None
        reading.discard(token)
        if not reading:
            del self._reading[channel_id]
        if stored is None or stored.found.messages.characters > PAGE_BYTES_MAX:
            return None
        page = self._pages[channel_id, asked] = RecentPage(stored, self._clock())
        self._pages.move_to_end((channel_id, asked))
        self._of_channel.setdefault(channel_id, set()).add(asked)
        if len(self._pages) > PAGES_MAX:
            self._drop(*next(iter(self._pages)))
        return page

    def forget(self, channel_id: str | None) -> None:
        """Forgets what is kept of a channel that a commit has touched; with None, of all channels."""
        if channel_id is None:
            self._pages.clear()
            self._of_channel.clear()
            self._reading.clear()
            return
        self._reading.pop(channel_id, None)
        for asked in self._of_channel.pop(channel_id, ()):
            del self._pages[channel_id, asked]

    def _drop(self, channel_id: str, asked: Hashable) -> None:
        del self._pages[channel_id, asked]
        of_channel = self._of_channel[channel_id]
        of_channel.discard(asked)
        if not of_channel:
            del self._of_channel[channel_id]
