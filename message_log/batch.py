"""Decides what becomes of a batch of posts. A transaction asks this after its reads and before its writes.

Nothing here reads or writes anything.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from changes import ChangeDraft, MessageChange
from errors import BadUserInput, IdempotencyConflict
from message_log.posted import same_post
from message_log.protocol import Appended
from messages import SEQUENCE_MAX, Draft, Message

Key = tuple[str, str, str]
"""(channel_id, author, idempotency_key). It names a post for as long as the log has the message."""

Outcome = Appended | Exception
"""What the poster of a draft is told."""

Named = tuple[Message, str | None]
"""The message that an idempotency key names, as it is now, and the digest of its post (see `posted`)."""


def key_of(draft: Draft) -> Key | None:
    """The `Key` of a draft, or None if the draft has no idempotency key."""
    key = draft.idempotency_key
    return None if key is None else (draft.channel_id, draft.author, key)


def keys_of(drafts: Iterable[Draft]) -> list[Key]:
    """The keys of some drafts, each once, in order."""
    return list(dict.fromkeys(key for key in map(key_of, drafts) if key is not None))


@dataclass(slots=True)
class Batch:
    """What one transaction writes, and what the posters are told.

    `outcomes[i]` is the answer to the i-th draft. `messages` are the new messages, ascending in each channel, and
    `keys[i]` is the idempotency key of `messages[i]`. `changes` are the new changes, ascending in each channel. `heads`
    has the new last sequence of each channel. `totals` has the messages and tokens to add for each (channel, provider,
    lane).
    """

    outcomes: list[Outcome]
    messages: list[Message] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    changes: list[MessageChange] = field(default_factory=list)
    heads: dict[str, int] = field(default_factory=dict)
    totals: dict[tuple[str, str, str], tuple[int, int]] = field(default_factory=dict)


def plan(
    drafts: Sequence[Draft],
    heads: Mapping[str, int],
    earlier: Mapping[Key, Named],
    *,
    timestamp: datetime,
    epoch: str,
) -> Batch:
    """Gives each new draft the next sequence of its channel. A repeat gets the message that it repeats.

    Args:
        drafts: in the order in which they came. A repeat may be in the same batch as the post that it repeats.
        heads: the last sequences of channels, which this transaction has locked. A channel that is missing here is new.
        earlier: the messages that the idempotency keys of the drafts name already.
        timestamp: when the log accepts the batch.
        epoch: the epoch of the log.
    """
    batch = Batch(outcomes=[])
    named = dict(earlier)
    for draft in drafts:
        key = key_of(draft)
        if key is not None and (first := named.get(key)) is not None:
            repeat = same_post(draft, *first)
            batch.outcomes.append(Appended(first[0], created=False) if repeat else IdempotencyConflict())
            continue
        channel_id = draft.channel_id
        head = batch.heads.get(channel_id)
        sequence = (heads.get(channel_id, 0) if head is None else head) + 1
        if sequence > SEQUENCE_MAX:
            batch.outcomes.append(BadUserInput("channelId", "names a channel that holds as many messages as one can"))
            continue
        batch.heads[channel_id] = sequence
        message = Message(
            channel_id,
            sequence,
            draft.author,
            draft.content,
            draft.lane,
            draft.provider,
            draft.token_count,
            timestamp,
            epoch,
            0,
            draft.complete,
        )
        if key is not None:
            named[key] = message, None
        batch.messages.append(message)
        batch.keys.append(draft.idempotency_key)
        batch.outcomes.append(Appended(message, created=True))
        group = (channel_id, draft.provider or "", draft.lane or "")
        count, tokens = batch.totals.get(group, (0, 0))
        batch.totals[group] = (count + 1, tokens + (draft.token_count or 0))
    return batch


def split(drafts: Sequence[Draft | ChangeDraft]) -> tuple[Sequence[Draft], list[ChangeDraft]]:
    """The posts and the changes among drafts. Both are in the order in which they came."""
    changes = [draft for draft in drafts if draft.__class__ is ChangeDraft]
    if not changes:
        return drafts, changes  # type: ignore[return-value]
    return [draft for draft in drafts if isinstance(draft, Draft)], changes


def merged(
    drafts: Sequence[Draft | ChangeDraft], posted: Batch, outcomes: Iterable[Outcome], changes: list[MessageChange]
) -> Batch:
    """The batch `posted`, to which the changes among `drafts` are added. Its outcomes are in the order of `drafts`."""
    of_posts, of_changes = iter(posted.outcomes), iter(outcomes)
    posted.outcomes = [next(of_changes if isinstance(draft, ChangeDraft) else of_posts) for draft in drafts]
    posted.changes = changes
    return posted
