"""Hints: what fits in a payload, what is believed of one, and that they arrive."""

import asyncio
from typing import Any

import psycopg

from message_log.hints import NOTIFY_CHANNEL, PAYLOAD_BYTES_MAX, decode_hints, encode_hints
from message_log.sql import SqlMessageLog
from tests.message_log.recorder import Recorder, post


def test_payloads_are_bounded_and_carry_every_hint_in_order() -> None:
    hints = [(name * 128, sequence) for sequence, name in enumerate(["😀", '"', "\\", "a", "é"] * 40)]
    hints += [("general", 2**53 - 1)]
    payloads = list(encode_hints(hints))
    assert all(len(payload.encode()) <= PAYLOAD_BYTES_MAX for payload in payloads)
    assert [hint for payload in payloads for hint in decode_hints(payload)] == hints
    assert len(list(encode_hints([(f"c{i}", i) for i in range(200)]))) == 1
    assert list(encode_hints([])) == []


def test_payload_that_is_no_hint_is_skipped() -> None:
    for payload in ("", "x", "{}", "1", "[1]", '[["a"]]', '[["a","b"]]', '[[1,"a"]]', '[["a",1,2]]', "null"):
        assert list(decode_hints(payload)) == []
    assert list(decode_hints('[["a",1],5,["b",2]]')) == [("a", 1), ("b", 2)]


async def until(recorder: Recorder, channel_id: str, sequence: int) -> None:
    """Waits until a hint says that the channel has come this far."""
    async with asyncio.timeout(10):
        while (channel_id, sequence) not in recorder.hints:
            recorder.heard.clear()
            await recorder.heard.wait()


async def until_heard(log: SqlMessageLog, recorder: Recorder, channel_id: str) -> None:
    """Posts until the other log is told: its LISTEN may not have been there when the first post came."""
    async with asyncio.timeout(10):
        while not any(hint[0] == channel_id for hint in recorder.hints):
            await post(log, "x", channel_id=channel_id)
            await asyncio.sleep(0.02)


async def test_commits_of_one_log_are_hinted_to_the_other_only(postgres_url: str) -> None:
    here, there = Recorder(), Recorder()
    first, second = SqlMessageLog(postgres_url), SqlMessageLog(postgres_url)
    await first.open(here)
    await second.open(there)
    await until_heard(first, there, "warm")
    await until_heard(second, here, "mraw")
    long = "😀" * 128
    await post(first, *map(str, range(100)), channel_id=long)
    await until(there, long, 100)
    assert len([hint for hint in there.hints if hint[0] == long]) < 20  # coalesced
    assert {hint[0] for hint in here.hints} == {"mraw"}
    assert {message.channel_id for message in there.messages} == {"mraw"}
    await first.close()
    await second.close()


async def test_lost_hint_connections_come_back_and_nonsense_is_ignored(postgres_url: str) -> None:
    there = Recorder()
    first, second = SqlMessageLog(postgres_url), SqlMessageLog(postgres_url)
    await first.open(Recorder())
    await second.open(there)
    await until_heard(first, there, "warm")
    admin: psycopg.AsyncConnection[Any]
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
        await admin.execute("SELECT pg_notify(%s, 'nonsense')", (NOTIFY_CHANNEL,))
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'raqcoon' AND datname = current_database()"
        )
    await until_heard(first, there, "after")
    await first.close()
    await second.close()
