"""What `message_log.protocol` promises, held by every implementation."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest

from errors import BadUserInput, Unavailable
from message_log.protocol import TOTALS_NAMES_MAX
from message_log.sql import SqlMessageLog
from message_log.writer import WriterLimits
from messages import ChannelHead, Draft, Totals
from tests.message_log.conftest import NewLog
from tests.message_log.recorder import Recorder, append, everything, post


async def test_append_first_post_gets_sequence_one_and_every_field(log: SqlMessageLog) -> None:
    before = datetime.now(UTC)
    appended = await log.append(Draft("general", "ada", "hello", "main", "openai", 7, "k"))
    message = appended.message
    assert appended.created
    assert (message.channel_id, message.sequence, message.author, message.content) == ("general", 1, "ada", "hello")
    assert (message.lane, message.provider, message.token_count) == ("main", "openai", 7)
    assert before <= message.timestamp <= datetime.now(UTC)
    assert message.timestamp.tzinfo is UTC
    assert message.epoch == log.epoch
    assert await log.message("general", 1) == message
    assert await log.read("general", after=0, limit=10, max_bytes=1000) == [message]


@pytest.mark.parametrize(
    "content",
    [
        "a",
        "\U0001d518\U0001d52b 😀 \U0001f469\u200d\U0001f469\u200d\U0001f467",
        "\u0001\u001f\u007f\u0085\u2028\u2029\ufeff\ufffe\uffff",
        "مرحبا بالعالم \u202eabc\u202c",
        "e\u0301 \u0065\u0301 é",
        "quotes \" \\ \\u0041 \\n %s %% :name {} $1 ' ; --",
        "\r\n\t \u00a0 trailing  ",
        "\U0010ffff" * 100,
    ],
)
async def test_append_any_content_comes_back_byte_for_byte(log: SqlMessageLog, content: str) -> None:
    draft = Draft("chännel😀", content[:128], content, content[:64], content[:64], 2**31 - 1, content[:128])
    first = (await log.append(draft)).message
    repeat = await log.append(draft)
    assert not repeat.created
    stored = await log.message("chännel😀", 1)
    assert stored is not None
    for message in (first, repeat.message, stored):
        assert message.content.encode() == content.encode()
        assert (message.author, message.lane, message.provider) == (content[:128], content[:64], content[:64])
        assert message.token_count == 2**31 - 1


async def test_append_largest_content_in_a_full_batch_is_stored(log: SqlMessageLog) -> None:
    contents = [chr(0x1F600 + i) * 16_384 for i in range(80)]
    assert [message.content for message in await post(log, *contents)] == contents
    assert [message.content for message in await everything(log)] == contents


async def test_append_concurrent_posters_sequences_are_contiguous(log: SqlMessageLog, recorder: Recorder) -> None:
    async def poster(number: int) -> None:
        for i in range(25):
            await log.append(Draft(f"channel{(number + i) % 3}", f"poster{number}", f"{number}-{i}"))

    await asyncio.gather(*(poster(number) for number in range(24)))
    for channel_id in ("channel0", "channel1", "channel2"):
        held = await everything(log, channel_id)
        assert [message.sequence for message in held] == list(range(1, 201))
        # Commit order is sequence order, and the listener hears of each message once.
        assert [message for message in recorder.messages if message.channel_id == channel_id] == held
        for number in range(24):  # what a poster posted one after another stays in that order
            own = [m.content for m in held if m.author == f"poster{number}"]
            assert own == sorted(own, key=lambda content: int(content.split("-")[1]))
    assert len(recorder.commits) < 600


async def test_append_while_reading_no_reader_sees_a_gap(log: SqlMessageLog) -> None:
    done = False

    async def reader() -> None:
        position = 0
        while not done or position < 300:
            for message in await log.read("general", after=position, limit=50, max_bytes=10**6):
                assert message.sequence == position + 1
                position = message.sequence

    readers = [asyncio.create_task(reader()) for _ in range(3)]
    for i in range(100):
        await post(log, f"{i}a", f"{i}b", f"{i}c")
    done = True
    await asyncio.gather(*readers)


async def test_append_answer_comes_after_the_listener_heard(log: SqlMessageLog, recorder: Recorder) -> None:
    async def check(i: int) -> None:
        message = (await log.append(Draft("general", "ada", str(i)))).message
        assert message in recorder.messages
        assert await log.last_sequence("general") >= message.sequence

    await asyncio.gather(*(check(i) for i in range(50)))


async def test_append_lone_surrogate_or_nul_is_refused_and_uses_no_sequence(log: SqlMessageLog) -> None:
    bad = [
        Draft("general", "ada", "x\ud800"),
        Draft("general", "ada", "x\0"),
        Draft("general", "a\udfff", "x"),
        Draft("general\0", "ada", "x"),
        Draft("general", "ada", "x", lane="\ud800"),
        Draft("general", "ada", "x", provider="\0"),
        Draft("general", "ada", "x", idempotency_key="\ud800"),
    ]
    good = Draft("general", "ada", "good")
    drafts = [draft for pair in zip(itertools.repeat(good), bad, strict=False) for draft in pair]
    results = await asyncio.gather(*(log.append(draft) for draft in drafts), return_exceptions=True)
    assert [result.argument for result in results if isinstance(result, BadUserInput)] == [
        "content",
        "content",
        "author",
        "channelId",
        "lane",
        "provider",
        "idempotencyKey",
    ]
    assert [message.sequence for message in await everything(log)] == list(range(1, 8))


async def test_append_post_that_the_database_refuses_fails_alone(log: SqlMessageLog) -> None:
    drafts = [Draft("general", "ada", str(i), token_count=2**70 if i in (3, 17) else i) for i in range(20)]
    results = await asyncio.gather(*(log.append(draft) for draft in drafts), return_exceptions=True)
    assert [i for i, result in enumerate(results) if isinstance(result, Exception)] == [3, 17]
    held = await everything(log)
    assert [message.sequence for message in held] == list(range(1, 19))
    assert [message.content for message in held] == [str(i) for i in range(20) if i not in (3, 17)]


async def test_append_cancelled_caller_leaves_the_log_whole(log: SqlMessageLog) -> None:
    tasks = [asyncio.create_task(log.append(Draft("general", "ada", str(i)))) for i in range(100)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not any(isinstance(result, BaseException) for result in results[1::2])
    held = await everything(log)
    assert [message.sequence for message in held] == list(range(1, len(held) + 1))
    assert {str(i) for i in range(1, 100, 2)} <= {message.content for message in held}


async def test_close_while_appends_wait_finishes_them(new_log: NewLog) -> None:
    log = new_log()
    recorder = Recorder()
    await log.open(recorder)
    tasks = [asyncio.create_task(log.append(Draft("general", "ada", str(i)))) for i in range(1000)]
    await asyncio.sleep(0)
    await asyncio.gather(log.close(), log.close())
    assert [appended.message.sequence for appended in await asyncio.gather(*tasks)] == list(range(1, 1001))
    assert len(recorder.messages) == 1000
    await log.close()
    for call in (log.append(Draft("general", "ada", "late")), log.last_sequence("general")):
        with pytest.raises(Unavailable):
            await call
    assert not await log.ready()


async def test_append_backlog_full_is_refused_at_once(new_log: NewLog) -> None:
    log = new_log(limits=WriterLimits(backlog_messages=10))
    await log.open(Recorder())
    results = await asyncio.gather(
        *(log.append(Draft("general", "ada", str(i))) for i in range(30)), return_exceptions=True
    )
    assert [isinstance(result, Unavailable) for result in results] == [False] * 10 + [True] * 20
    assert len(await post(log, "later")) == 1
    await log.close()


async def test_reopened_log_keeps_epoch_messages_and_counters(new_log: NewLog) -> None:
    log = new_log()
    await log.open(Recorder())
    epoch, sent = log.epoch, await post(log, "a", "b")
    await log.close()
    await log.open(Recorder())
    assert log.epoch == epoch
    assert await everything(log) == sent
    assert [message.sequence for message in await post(log, "c")] == [3]
    await log.close()


async def test_clock_steps_back_order_stays_by_sequence(new_log: NewLog) -> None:
    start = datetime(2026, 11, 1, 12, 0, 0, 123457, tzinfo=UTC)
    offsets = [timedelta(0), timedelta(hours=-1), timedelta(microseconds=1)]
    steps = iter(offsets)
    log = new_log(now=lambda: start + next(steps))
    await log.open(Recorder())
    for content in "abc":
        await post(log, content)
    held = await everything(log)
    assert [message.content for message in held] == ["a", "b", "c"]
    assert [message.timestamp - start for message in held] == offsets
    assert [message.content for message in await log.oldest_of_all(limit=10)] == ["b", "a", "c"]
    await log.close()


async def test_heads_of_known_and_unknown_channels(log: SqlMessageLog) -> None:
    await post(log, "a", "b", channel_id="x")
    await post(log, "a", channel_id="it's 😀")
    assert await log.last_sequence("x") == 2
    assert await log.last_sequence("nobody") == 0
    assert await log.last_sequences(["x", "nobody", "it's 😀"]) == {"x": 2, "it's 😀": 1}
    assert await log.last_sequences([]) == {}
    assert await log.last_sequences({f"c{i}" for i in range(20_000)} | {"x"}) == {"x": 2}


async def test_read_bounds_by_messages_and_bytes(log: SqlMessageLog) -> None:
    await post(log, *("é" * 50 for _ in range(300)))

    async def sequences(after: int, limit: int, max_bytes: int) -> list[int]:
        return [m.sequence for m in await log.read("general", after=after, limit=limit, max_bytes=max_bytes)]

    assert await sequences(0, 5, 10**6) == [1, 2, 3, 4, 5]
    assert await sequences(298, 5, 10**6) == [299, 300]
    assert await sequences(300, 5, 10**6) == []
    assert await sequences(10, 200, 1) == [11]
    assert await sequences(10, 200, 0) == [11]
    assert await sequences(10, 200, 100) == [11, 12]
    assert await sequences(10, 200, 299) == [11, 12, 13]
    assert await sequences(0, 300, 10**6) == list(range(1, 301))


async def test_oldest_sequence_of_held_and_empty_channels(log: SqlMessageLog) -> None:
    assert await log.oldest_sequence("general") == 1
    await post(log, "a", "b")
    assert await log.oldest_sequence("general") == 1


async def test_message_unknown_sequence_is_none(log: SqlMessageLog) -> None:
    await post(log, "a")
    assert await log.message("general", 2) is None
    assert await log.message("nobody", 1) is None
    assert await log.message("general", 2**80) is None


async def test_oldest_of_all_orders_by_time_channel_sequence(new_log: NewLog) -> None:
    moment = datetime(2026, 11, 1, tzinfo=UTC)
    log = new_log(now=lambda: moment)
    await log.open(Recorder())
    await append(log, *(Draft(channel_id, "ada", "x") for channel_id in "bab"))
    moment -= timedelta(seconds=1)
    await post(log, "x", channel_id="z")
    listed = [(m.channel_id, m.sequence) for m in await log.oldest_of_all(limit=10)]
    assert listed == [("z", 1), ("a", 1), ("b", 1), ("b", 2)]
    assert [m.channel_id for m in await log.oldest_of_all(limit=2)] == ["z", "a"]
    assert [m.channel_id for m in await log.oldest_of_all(limit=2, channel_ids=["b", "a", "nobody"])] == ["a", "b"]
    assert await log.oldest_of_all(limit=2, channel_ids=[]) == []
    await log.close()


async def test_channels_are_listed_by_code_point(log: SqlMessageLog) -> None:
    names = ["b", "B", "a", "é", "Z", "10", "9", "_", "😀", "\uffee", "a-b", "ab"]
    for name in names:
        await post(log, "x", channel_id=name)
    listed = await log.channels(limit=100)
    assert listed == [ChannelHead(name, 1) for name in sorted(names)]
    assert await log.channels(after=sorted(names)[4], limit=3) == listed[5:8]
    assert await log.channels(after="\U0010ffff", limit=3) == []


async def test_totals_name_the_lanes_and_providers_with_the_most_messages(log: SqlMessageLog) -> None:
    names = [f"n{number:04}" for number in range(TOTALS_NAMES_MAX + 1)]
    often = names[1:]
    await append(log, *(Draft("general", "ada", "x", name, name) for name in (*names, *often)))
    totals = await log.totals()
    assert totals.messages == len(names) + len(often)
    assert totals.messages_by_lane == totals.messages_by_provider == dict.fromkeys(often, 2)


async def test_totals_count_by_provider_and_lane(log: SqlMessageLog) -> None:
    assert await log.totals() == Totals(0, 0, {}, {})
    drafts = [
        Draft("x", "ada", "1", "main", "openai", 5),
        Draft("x", "ada", "2", "main", None, None),
        Draft("x", "ada", "3", None, "openai", 2**31 - 1, "k"),
        Draft("y", "ada", "4", "side", "other", 2**31 - 1),
    ]
    await append(log, *drafts)
    await append(log, drafts[2])  # a repeat counts once
    assert await log.totals() == Totals(4, 5 + 2 * (2**31 - 1), {"openai": 2, "other": 1}, {"main": 2, "side": 1})
    assert await log.totals(["x", "nobody"]) == Totals(3, 5 + 2**31 - 1, {"openai": 2}, {"main": 2})
    assert await log.totals([]) == Totals(0, 0, {}, {})


async def test_reader_cancelled_leaves_the_log_usable(log: SqlMessageLog) -> None:
    await post(log, *map(str, range(200)))
    for _ in range(20):
        tasks = [asyncio.create_task(log.read("general", after=0, limit=200, max_bytes=10**6)) for _ in range(10)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert len(await everything(log)) == 200
    assert await log.ready()


async def test_read_many_reads_on_in_each_channel_within_the_bounds(log: SqlMessageLog) -> None:
    for channel_id in ("a", "b", "c", "é😀"):
        await post(log, *(f"{channel_id} {number}" for number in range(10)), channel_id=channel_id)
    await post(log, *(character * 1_000 for character in "xyz"), channel_id="long")
    positions = {"a": 0, "b": 7, "c": 10, "é😀": 9, "long": 0, "nobody's": 0}
    found = await log.read_many(positions, limit=4, max_bytes=1_500)
    assert {channel_id: [m.sequence for m in run] for channel_id, run in found.items()} == {
        "a": [1, 2, 3, 4],
        "b": [8, 9, 10],
        "é😀": [10],
        "long": [1, 2],
    }
    for channel_id, run in found.items():
        assert run == await log.read(channel_id, after=positions[channel_id], limit=4, max_bytes=1_500)
    assert await log.read_many({}, limit=4, max_bytes=1_500) == {}
    (first,) = (await log.read_many({"long": 0}, limit=4, max_bytes=1))["long"]
    assert first.sequence == 1


async def test_totals_tell_only_the_largest_lanes_and_providers_apart(new_log: NewLog) -> None:
    log = new_log()
    await log.open(Recorder())
    drafts = [Draft("c", "ada", "x", f"lane{number:04}", f"provider{number:04}") for number in range(1_003)]
    await append(log, *drafts, *drafts[3:], Draft("c", "ada", "x"))
    totals = await log.totals()
    await log.close()
    assert totals.messages == 2_004
    for names, prefix in ((totals.messages_by_lane, "lane"), (totals.messages_by_provider, "provider")):
        assert list(names.items()) == [(f"{prefix}{number:04}", 2) for number in range(3, 1_003)]
