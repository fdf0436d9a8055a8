"""Hints: what is told of a commit, who can hear it, what is believed, and that they come back after an outage."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from message_log import hints as hints_module
from message_log.copy import copy_log
from message_log.hints import EARLIER_NOTIFY_CHANNEL, Hints, log_name
from message_log.sql import SqlMessageLog
from message_log.wire import encode
from messages import Message
from tests.message_log.recorder import Recorder, post


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[tuple[SqlMessageLog, Recorder]]:
    """A log and what it hears."""
    recorder = Recorder()
    log = SqlMessageLog(url)
    await log.open(recorder)
    try:
        yield log, recorder
    finally:
        await log.close()


def hints_of(log: SqlMessageLog) -> Hints:
    assert log._parts is not None
    assert log._parts.hints is not None
    return log._parts.hints


async def notify(url: str, channel: str, *payloads: str) -> None:
    connection: psycopg.AsyncConnection[Any]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for payload in payloads:
            await connection.execute("SELECT pg_notify(%s, %s)", (channel, payload))


async def until(recorder: Recorder, channel_id: str, sequence: int) -> None:
    """Waits until the channel is known to have come this far."""
    async with asyncio.timeout(10):
        while (channel_id, sequence) not in recorder.reached:
            recorder.heard_something.clear()
            await recorder.heard_something.wait()


async def until_heard(log: SqlMessageLog, recorder: Recorder, channel_id: str) -> None:
    """Posts until the other log is told: its LISTEN may not have been there when the first post came."""
    async with asyncio.timeout(10):
        while not any(name == channel_id for name, _ in recorder.reached):
            await post(log, "x", channel_id=channel_id)
            await asyncio.sleep(0.02)


async def test_commits_of_one_log_are_told_to_the_other_with_their_messages(postgres_url: str) -> None:
    async with opened(postgres_url) as (first, here), opened(postgres_url) as (second, there):
        await until_heard(first, there, "warm")
        await until_heard(second, here, "mraw")
        name = "😀" * 128
        posted = await post(first, *map(str, range(100)), channel_id=name)
        await until(there, name, 100)
        assert [message for message in there.from_elsewhere if message.channel_id == name] == posted
        assert there.hints == here.hints == []
        assert {message.channel_id for message in here.from_elsewhere} == {"mraw"}
        assert {message.channel_id for message in there.messages} == {"mraw"}
        assert there.dropped == here.dropped == 0


async def test_message_too_long_for_a_hint_is_told_by_its_sequence(postgres_url: str) -> None:
    async with opened(postgres_url) as (first, _), opened(postgres_url) as (_, there):
        await until_heard(first, there, "warm")
        short, long, other = "short", "é" * 4_000, "x" * 7_500
        for content in (short, long, other):
            await post(first, content)
        await until(there, "general", 3)
        assert there.hints == [("general", 2)]
        assert [m.content for m in there.from_elsewhere if m.channel_id == "general"] == [short, other]


async def test_more_than_is_gathered_is_told_by_sequences(postgres_url: str, monkeypatch) -> None:
    monkeypatch.setattr(hints_module, "GATHERED_BYTES_MAX", 1_000)
    async with opened(postgres_url) as (first, _), opened(postgres_url) as (_, there):
        await until_heard(first, there, "warm")
        await post(first, *("x" * 100 for _ in range(50)))
        await until(there, "general", 50)
        assert ("general", 50) in there.hints
        assert hints_of(first)._gathered_bytes <= 1_000


async def test_logs_that_share_a_database_for_hints_do_not_hear_each_other(
    postgres_url: str, other_postgres_url: str
) -> None:
    async with opened(postgres_url) as (log, _):
        await post(log, "one")
    await asyncio.to_thread(copy_log, postgres_url, other_postgres_url)
    async with opened(postgres_url) as (log, _), opened(other_postgres_url) as (copy, _):
        assert log.epoch == copy.epoch
        assert hints_of(log).notify_channel != hints_of(copy).notify_channel
    assert log_name("one epoch", "place") != log_name("another", "place")


async def test_what_is_not_of_this_log_is_dropped_and_counted(postgres_url: str) -> None:
    async with opened(postgres_url) as (first, _), opened(postgres_url) as (second, there):
        await until_heard(first, there, "warm")
        hints = hints_of(second)
        (foreign,) = (payload.decode() for payload in encode(there.from_elsewhere[:1], log_name("other", "place")))
        cut = f'["1:{hints._name}",["general",1],[1,"eve"'
        bare = f'["1:{hints._name}",["general",1],[1,"eve"]]'
        before = list(there.reached)
        await notify(postgres_url, hints.notify_channel, "nonsense", foreign, cut, bare, "[]", '[["general",1]]')
        await notify(postgres_url, EARLIER_NOTIFY_CHANNEL, "nonsense", "{}")
        await until_heard(first, there, "after")
        assert there.dropped == 8
        assert {name for name, _ in there.reached} == {"warm", "after"}
        assert there.reached[: len(before)] == before


async def test_nodes_of_the_version_before_are_heard(postgres_url: str) -> None:
    async with opened(postgres_url) as (first, _), opened(postgres_url) as (_, there):
        await until_heard(first, there, "warm")
        await notify(postgres_url, EARLIER_NOTIFY_CHANNEL, '[["general",7],["random",2]]')
        await until(there, "random", 2)
        assert there.hints == [("general", 7), ("random", 2)]
        assert there.dropped == 0


async def test_lost_hint_connections_come_back(postgres_url: str) -> None:
    async with opened(postgres_url) as (first, _), opened(postgres_url) as (_, there):
        await until_heard(first, there, "warm")
        admin: psycopg.AsyncConnection[Any]
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
            await admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'raqcoon' AND datname = current_database()"
            )
        there.gap.clear()
        async with asyncio.timeout(10):
            await there.gap.wait()
        await until_heard(first, there, "after")


async def test_post_that_is_refused_is_never_told(postgres_url: str) -> None:
    told: list[Message] = []
    async with opened(postgres_url) as (log, _):
        hints_of(log).announce = lambda commit: told.extend(commit.messages)  # type: ignore[method-assign]
        connection: psycopg.AsyncConnection[Any]
        async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
            await connection.execute("ALTER TABLE messages ADD CONSTRAINT short CHECK (length(content) < 5)")
        outcomes = await asyncio.gather(
            *(post(log, content) for content in ("one", "far too long", "two")), return_exceptions=True
        )
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [False, True, False]
        assert [message.content for message in told] == ["one", "two"]


async def test_listener_that_fails_does_not_end_the_hints(postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(postgres_url) as (first, _), opened(postgres_url) as (_, there):
        await until_heard(first, there, "warm")
        there.heard = None  # type: ignore[method-assign, assignment]
        async with asyncio.timeout(10):
            while "hints have failed" not in caplog.text:
                await post(first, "x")
                await asyncio.sleep(0.02)
        del there.heard
        await until_heard(first, there, "after")
