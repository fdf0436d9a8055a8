"""Posts for which this process has to read nothing first. PostgreSQL stores them with one statement, in one round trip.

A post is plain if its message is whole and no other post of its batch has the same idempotency key. The database gives
plain posts their sequences: one statement raises the counters of their channels, writes the messages below the new
heads, adds to the totals, signs the process's row in `writers`, and answers with the heads. So channels are locked only
while the database works, and never while a process waits for its turn.

If a post has a key that names a message already, nothing at all is stored, and the batch has to be stored in steps. The
statement finds out by itself, from what was committed when it began. If such a message is committed only after that,
the unique index refuses the whole statement. The index would refuse repeats within a batch too, but each time
PostgreSQL would write an error into its log. That is why such a batch is not tried.

If the outcome of the commit is unknown, so are the sequences. That is why the statement writes the heads into the row
in `writers` too (see `writer_row`).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import orjson

from changes import ChangeDraft
from message_log.batch import Batch, key_of, keys_of, plan
from message_log.writer_row import NOW, ON_CONFLICT_SIGN
from message_rows import to_microseconds
from messages import SEQUENCE_MAX, Draft

# LATERAL with LIMIT makes the planner use one index look-up for each key, whatever size it expects the table to have.
_KNOWN = """
known AS (
    SELECT FROM json_array_elements(%s::json) AS k CROSS JOIN LATERAL (
        SELECT FROM messages
        WHERE channel_id = k->>0 AND author = k->>1 AND idempotency_key = k->>2 LIMIT 1
    ) AS m LIMIT 1
),"""


def _statement(known: str, unless_known: str) -> str:
    # `raised` locks the channels in the order in which they are given. All other parts need its rows, so they come
    # after it, and do nothing if it has none. Each message is `below` the new head of its channel by so much. A
    # sequence past the largest one is null, which `messages` does not take.
    return f"""
WITH {known} raised AS (
    INSERT INTO channels (channel_id, last_sequence)
    SELECT r->>0, (r->>1)::bigint FROM json_array_elements(%s::json) AS r {unless_known}
    ON CONFLICT (channel_id) DO UPDATE SET last_sequence = channels.last_sequence + excluded.last_sequence
    RETURNING channel_id, last_sequence
), signed AS (
    INSERT INTO writers (writer_id, commits, seen_at, heads)
    SELECT %s, %s, {NOW}, json_object_agg(channel_id, last_sequence)::text FROM raised HAVING count(*) > 0
    {ON_CONFLICT_SIGN}
), stored AS (
    INSERT INTO messages
        (channel_id, sequence, timestamp, author, lane, provider, token_count, idempotency_key, content)
    SELECT
        channel_id, CASE WHEN last_sequence <= {SEQUENCE_MAX} THEN last_sequence - below END,
        %s, author, lane, provider, token_count, idempotency_key, content
    FROM json_to_recordset(%s::json) AS r (
        channel_id text, below bigint, author text, lane text, provider text, token_count integer,
        idempotency_key text, content text
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


_STORE = _statement("", "")
_STORE_UNLESS_KNOWN = _statement(_KNOWN, "WHERE NOT EXISTS (SELECT FROM known)")


def all_plain(drafts: Sequence[Draft | ChangeDraft]) -> bool:
    """Whether all drafts are plain posts."""
    if not all(isinstance(draft, Draft) and draft.complete for draft in drafts):
        return False
    keys = [key for draft in drafts if (key := key_of(cast(Draft, draft))) is not None]
    return len(set(keys)) == len(keys)


class PlainPosts:
    """Plain posts that are stored together, in the order in which they came.

    `statement` stores them. It answers with the new head of each channel, or with nothing if it has stored nothing,
    because a message with one of the keys is there already.
    """

    def __init__(self, posts: Sequence[Draft], timestamp: datetime, epoch: str) -> None:
        self._posts = posts
        self._keys = keys_of(posts)
        self.statement = _STORE_UNLESS_KNOWN if self._keys else _STORE
        self._timestamp = timestamp
        self._epoch = epoch
        self._counts = Counter([post.channel_id for post in posts])

    def parameters(self, writer_id: str, commit: int) -> tuple[Any, ...]:
        """The parameters of `statement` for a transaction with this number.

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
                    "idempotency_key": post.idempotency_key,
                    "content": post.content,
                }
            )
            group = (channel_id, post.provider or "", post.lane or "")
            messages, tokens = totals.get(group, (0, 0))
            totals[group] = (messages + 1, tokens + (post.token_count or 0))
        return (
            *([_json(self._keys)] if self._keys else []),
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
