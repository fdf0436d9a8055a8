"""The plan of a batch: sequences, repeats, conflicts and totals, without a database."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from errors import IdempotencyConflict
from message_log.batch import key_of, plan
from message_log.protocol import Appended
from message_rows import from_microseconds, to_microseconds
from messages import Draft, Message

NOW = datetime(2026, 11, 1, tzinfo=UTC)

drafts = st.builds(
    Draft,
    channel_id=st.sampled_from("abc"),
    author=st.sampled_from(["ada", "bob"]),
    content=st.sampled_from("xy"),
    lane=st.sampled_from([None, "main"]),
    provider=st.sampled_from([None, "p"]),
    token_count=st.sampled_from([None, 1, 5]),
    idempotency_key=st.sampled_from([None, None, "1", "2"]),
)


@given(st.lists(drafts, max_size=30), st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)))
def test_plan_in_two_batches_answers_as_one(posts: list[Draft], heads: dict[str, int]) -> None:
    whole = plan(posts, heads, {}, timestamp=NOW, epoch="e")
    half = len(posts) // 2
    first = plan(posts[:half], heads, {}, timestamp=NOW, epoch="e")
    held = {
        (message.channel_id, message.author, key): (message, None)
        for message, key in zip(first.messages, first.keys, strict=True)
        if key is not None
    }
    second = plan(posts[half:], {**heads, **first.heads}, held, timestamp=NOW, epoch="e")
    assert first.messages + second.messages == whole.messages
    assert [str(o) for o in first.outcomes + second.outcomes] == [str(o) for o in whole.outcomes]


@given(st.lists(drafts, max_size=30), st.dictionaries(st.sampled_from("abc"), st.integers(0, 9)))
def test_plan_hands_out_contiguous_sequences_and_counts_what_is_new(posts: list[Draft], heads: dict[str, int]) -> None:
    batch = plan(posts, heads, {}, timestamp=NOW, epoch="e")
    for channel_id in "abc":
        sequences = [message.sequence for message in batch.messages if message.channel_id == channel_id]
        head = heads.get(channel_id, 0)
        assert sequences == list(range(head + 1, head + 1 + len(sequences)))
        assert batch.heads.get(channel_id, head) == head + len(sequences)
    assert sum(count for count, _ in batch.totals.values()) == len(batch.messages)
    assert sum(tokens for _, tokens in batch.totals.values()) == sum(m.token_count or 0 for m in batch.messages)
    named: dict[object, Message] = {}
    for draft, outcome in zip(posts, batch.outcomes, strict=True):
        key = key_of(draft)
        first = named.get(key) if key else None
        if first is None:
            assert isinstance(outcome, Appended)
            assert outcome.created
            named[key] = outcome.message
        elif draft.same_post(first):
            assert outcome == Appended(first, created=False)
        else:
            assert isinstance(outcome, IdempotencyConflict)


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)))
def test_microseconds_are_exact_in_any_zone(moment: datetime) -> None:
    moment = moment.replace(tzinfo=timezone(timedelta(hours=5, minutes=45)))
    assert from_microseconds(to_microseconds(moment)) == moment
    assert from_microseconds(to_microseconds(moment)).tzinfo is UTC
