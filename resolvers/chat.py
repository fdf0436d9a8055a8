"""What every resolver works on: the log, the hub, and the limits on posts."""

from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from delivery.hub import Hub
from delivery.hubs import Hubs
from message_log.protocol import Appended, MessageLog
from messages import Draft
from resolvers.fair_queue import FairQueue
from resolvers.post_rate import PostRate
from resolvers.recent_pages import RecentPages
from resolvers.untaken_answers import UntakenAnswers

if TYPE_CHECKING:
    from resolvers.tracing import Tracing

CONTENT_BYTES_MAX = 65_536
"""Longest content of a message by default, in bytes of UTF-8."""
READS_AT_ONCE = 8
"""Reads of history that may be under way: enough to keep the log's four readers busy."""
READS_OF_CLIENT_AT_ONCE = 6
"""How many of them may be of one client, so that the others need not wait for it at all."""


@dataclass(slots=True)
class Chat:
    """The log, the hubs that listen to it, and what may be posted.

    `content_bytes_max` is the longest content in bytes of UTF-8. `accepting` is False while the server drains: then
    posts are refused with `Unavailable`, and everything else goes on. `post_rate` limits how fast clients may post;
    None is no limit.
    """

    log: MessageLog
    hubs: Hubs
    content_bytes_max: int = CONTENT_BYTES_MAX
    accepting: bool = True
    refusals: Counter[str] = field(default_factory=Counter)
    """Errors told to clients since the start, by code. Codes are those of `errors.py`."""
    post_rate: PostRate | None = None
    tracing: "Tracing | None" = None
    """Makes spans of posts, if that is asked for."""
    reads: FairQueue = field(default_factory=lambda: FairQueue(READS_AT_ONCE, READS_OF_CLIENT_AT_ONCE))
    """Where reads of history wait for each other."""
    untaken_answers: UntakenAnswers = field(default_factory=UntakenAnswers)
    """Counts what answers hold until their clients have taken them."""
    recent_pages: RecentPages = field(default_factory=RecentPages)

    def __post_init__(self) -> None:
        self.hubs.on_moved = self.recent_pages.forget

    @property
    def hub(self) -> Hub:
        """The hub of messages."""
        return self.hubs.messages

    def append(self, draft: Draft) -> Awaitable[Appended]:
        """`log.append(draft)`, in a span if posts are traced."""
        return self.log.append(draft) if self.tracing is None else self.tracing.append(self.log, draft)
