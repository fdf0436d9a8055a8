"""Posts for which nothing has to be read first. PostgreSQL stores them with one statement, in one round trip.

A post is plain if its message is whole and it has no idempotency key. The database gives plain posts their sequences:
one statement raises the counters of their channels, writes the messages below the new heads, adds to the totals, signs
the process's row in `writers`, and answers with the heads. So channels are locked only while the database works, and
never while a process waits for its turn.

If the outcome of the commit is unknown, so are the sequences. That is why the statement writes the heads into the row
in `writers` too (see `writer_row`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from changes import ChangeDraft
from message_log.batch import Batch, plan
from message_log.writer_row import NOW, ON_CONFLICT_SIGN
from message_rows import to_microseconds
from messages import SEQUENCE_MAX, Draft

# `raised` locks the channels in the order in which they are given. All other parts need its rows, so they come after
# it. Each message is `below` the new head of its channel by so much. A sequence past the largest one is null, which
# `messages` does not take.
STORE = f"""
WITH raised AS (
    INSERT INTO channels (channel_id, last_sequence)
    SELECT r->>0, (r->>1)::bigint FROM json_array_elements(%s::json) AS r
    ON CONFLICT (channel_id) DO UPDATE SET last_sequence = channels.last_sequence + excluded.last_sequence
    RETURNING channel_id, last_sequence
), signed AS (
    INSERT INTO writers (writer_id, commits, seen_at, heads)
    SELECT %s, %s, {NOW}, json_object_agg(channel_id, last_sequence)::text FROM raised
    {ON_CONFLICT_SIGN}
), stored AS (
    INSERT INTO messages (channel_id, sequence, timestamp, author, lane, provider, token_count, content)
    SELECT
        channel_id, CASE WHEN last_sequence <= {SEQUENCE_MAX} THEN last_sequence - below END,
        %s, author, lane, provider, token_count, content
    FROM json_to_recordset(%s::json) AS r (
        channel_id text, below bigint, author text, lane text, provider text, token_count integer, content text
    ) JOIN raised USING (channel_id)
), added AS (
    INSERT INTO totals (channel_id, provider, lane, messages, tokens)
    SELECT channel_id, r->>1, r->>2, (r->>3)::bigint, (r->>4)::bigint
    FROM json_array_elements(%s::json) AS r JOIN raised ON channel_id = r->>0
    ON CONFLICT (channel_id, provider, lane) DO UPDATE
    SET messages = totals.messages + excluded.messages, tokens = totals.tokens + excluded.tokens
)
SELECT channel_id, last_sequence FROM raised
"""
"""Its answer has the new head of each channel. Its parameters are those of `PlainPosts.parameters`."""


def all_plain(drafts: Sequence[Draft | ChangeDraft]) -> bool:
    """Whether all drafts are posts for which nothing has to be read first."""
    return all(isinstance(draft, Draft) and draft.complete and draft.idempotency_key is None for draft in drafts)


class PlainPosts:
    """Plain posts that are stored together, in the order in which they came."""

    def __init__(self, posts: Sequence[Draft], timestamp: datetime, epoch: str) -> None:
        self._posts = posts
        self._timestamp = timestamp
        self._epoch = epoch
        self._counts = Counter([post.channel_id for post in posts])

    def parameters(self, writer_id: str, commit: int) -> tuple[Any, ...]:
        """The parameters of `STORE` for a transaction with this number.

        Raises:
            TypeError: a post cannot be written in UTF-8.
        """
        left = dict(self._counts)
        rows: list[dict[str, Any]] = []
        totals: dict[tuple[str, str, str], tuple[int, int]] = {}
        for post in self._posts:
            channel_id = post.channel_id
            left[channel_id] -= 1
            rows.append(
                {
                    "channel_id": channel_id,
                    "below": left[channel_id],
                    "author": post.author,
                    "lane": post.lane,
                    "provider": post.provider,
                    "token_count": post.token_count,
                    "content": post.content,
                }
            )
            group = (channel_id, post.provider or "", post.lane or "")
            messages, tokens = totals.get(group, (0, 0))
            totals[group] = (messages + 1, tokens + (post.token_count or 0))
        return (
            _json(sorted(self._counts.items())),
            writer_id,
            commit,
            to_microseconds(self._timestamp),
            _json(rows),
            _json([(*group, *added) for group, added in totals.items()]),
        )

    def batch(self, heads: Mapping[str, int]) -> Batch:
        """What was stored, given the heads of the channels after it."""
        before = {channel_id: heads[channel_id] - count for channel_id, count in self._counts.items()}
        return plan(self._posts, before, {}, timestamp=self._timestamp, epoch=self._epoch)


def _json(rows: object) -> str:
    return orjson.dumps(rows).decode()
