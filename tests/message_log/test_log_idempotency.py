"""Idempotency keys (design 2.4): a repeat returns the first message; any difference is a conflict."""

import asyncio
from dataclasses import replace

import pytest

from errors import IdempotencyConflict
from message_log.protocol import Appended
from message_log.sql import SqlMessageLog
from messages import Draft
from tests.message_log.conftest import NewLog
from tests.message_log.recorder import Recorder, append, everything

DRAFT = Draft("general", "ada", "hello", "main", "openai", 7, "key")


async def test_repeat_later_returns_the_first_and_is_not_published(log: SqlMessageLog, recorder: Recorder) -> None:
    (first,) = await append(log, DRAFT)
    (repeat,) = await append(log, DRAFT)
    assert first.created
    assert repeat == Appended(first.message, created=False)
    assert recorder.messages == [first.message]
    assert await everything(log) == [first.message]


async def test_key_names_its_message_and_nothing_else(log: SqlMessageLog) -> None:
    (first,) = await append(log, DRAFT)
    assert await log.repeated(DRAFT) == first.message
    for channel, author, key in (("other", "ada", "key"), ("general", "bob", "key"), ("general", "ada", "Key")):
        assert await log.repeated(replace(DRAFT, channel_id=channel, author=author, idempotency_key=key)) is None


async def test_repeat_in_one_batch_returns_the_first(log: SqlMessageLog, recorder: Recorder) -> None:
    results = await append(log, *[DRAFT] * 10)
    assert [result.created for result in results] == [True] + [False] * 9
    assert len({result.message.sequence for result in results}) == 1
    assert len(recorder.messages) == 1


async def test_repeats_among_new_posts_use_no_sequence(log: SqlMessageLog) -> None:
    await append(log, DRAFT)
    other = Draft("other", "ada", "x")
    results = await append(log, other, DRAFT, replace(DRAFT, idempotency_key="2"), DRAFT, other)
    assert [(r.message.channel_id, r.message.sequence) for r in results] == [
        ("other", 1),
        ("general", 1),
        ("general", 2),
        ("general", 1),
        ("other", 2),
    ]
    assert await log.last_sequences(["general", "other"]) == {"general": 2, "other": 2}


@pytest.mark.parametrize(
    "different",
    [
        replace(DRAFT, content="hello!"),
        replace(DRAFT, lane=None),
        replace(DRAFT, lane="side"),
        replace(DRAFT, provider=None),
        replace(DRAFT, token_count=8),
        replace(DRAFT, token_count=None),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_key_with_another_post_conflicts_and_stores_nothing(
    log: SqlMessageLog, recorder: Recorder, different: Draft, together: bool
) -> None:
    if together:
        first, conflict = await asyncio.gather(log.append(DRAFT), log.append(different), return_exceptions=True)
        assert isinstance(first, Appended)
    else:
        await append(log, DRAFT)
        (conflict,) = await asyncio.gather(log.append(different), return_exceptions=True)
    assert isinstance(conflict, IdempotencyConflict)
    (second,) = await append(log, replace(DRAFT, idempotency_key=None))
    assert second.message.sequence == 2
    assert len(recorder.messages) == 2
    assert (await log.totals()).messages == 2


async def test_key_of_another_author_or_channel_is_another_key(log: SqlMessageLog) -> None:
    results = await append(log, DRAFT, replace(DRAFT, author="bob"), replace(DRAFT, channel_id="other"))
    assert all(result.created for result in results)


async def test_key_matches_by_code_point(log: SqlMessageLog) -> None:
    keys = ["é", "e\u0301", "E\u0301", "a", "A", "a ", "😀", "'", '"', "\\"]
    results = await append(log, *(replace(DRAFT, idempotency_key=key) for key in keys))
    assert all(result.created for result in results)
    results = await append(log, *(replace(DRAFT, idempotency_key=key) for key in keys))
    assert not any(result.created for result in results)


async def test_posts_without_key_are_never_repeats(log: SqlMessageLog) -> None:
    keyless = replace(DRAFT, idempotency_key=None)
    assert [result.message.sequence for result in await append(log, keyless, keyless, keyless)] == [1, 2, 3]


async def test_concurrent_repeats_of_many_keys_store_each_once(log: SqlMessageLog, recorder: Recorder) -> None:
    async def poster(number: int) -> list[int]:
        own = []
        for i in range(40):
            key = str((i + number * 7) % 40)
            appended = await log.append(Draft("general", "ada", f"post {key}", idempotency_key=key))
            assert appended.message.content == f"post {key}"
            own.append(appended.message.sequence)
        return sorted(own)

    assert await asyncio.gather(*(poster(number) for number in range(12))) == [list(range(1, 41))] * 12
    assert len(recorder.messages) == 40


async def test_repeat_after_reopening_returns_the_first(new_log: NewLog) -> None:
    log = new_log()
    await log.open(Recorder())
    (first,) = await append(log, DRAFT)
    await log.close()
    await log.open(Recorder())
    assert await append(log, DRAFT) == [Appended(first.message, created=False)]
    await log.close()
