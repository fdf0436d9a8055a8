"""Nodes behind a pooler in transaction mode, where a session belongs to whoever comes next."""

import asyncio
import logging

import psycopg
import pytest

from message_log.hints import WINDOW_SECONDS
from message_log.sql import SqlMessageLog
from messages import Draft
from tests.message_log.recorder import Recorder


@pytest.fixture
def pooled_url(pooler: str, postgres_url: str) -> str:
    """The empty database of `postgres_url` through PgBouncer."""
    return pooler.rpartition("/")[0] + "/" + postgres_url.partition("?")[0].rpartition("/")[2]


async def test_log_behind_a_pooler_keeps_every_promise_and_leaves_no_settings_behind(
    pooled_url: str, postgres_url: str
) -> None:
    heard = Recorder(), Recorder()
    logs = [SqlMessageLog(pooled_url, notify_url=postgres_url) for _ in heard]
    for log, recorder in zip(logs, heard, strict=True):
        await log.open(recorder)
        async with asyncio.timeout(10):
            await recorder.gap.wait()  # It listens.

    async def publish(log: SqlMessageLog, author: str) -> None:
        for number in range(60):
            draft = Draft(f"c{number % 5}", author, f"{author} {number}", idempotency_key=str(number))
            first = await log.append(draft)
            again = await log.append(draft)
            assert (again.created, again.message.id) == (False, first.message.id)

    await asyncio.gather(*(publish(log, f"{i}{j}") for i, log in enumerate(logs) for j in range(4)))
    assert await logs[0].last_sequences([f"c{i}" for i in range(5)]) == {f"c{i}": 96 for i in range(5)}
    reads = await asyncio.gather(
        *(log.read("c1", after=0, limit=200, max_bytes=10**6) for log in logs for _ in range(20))
    )
    assert {tuple(message.sequence for message in read) for read in reads} == {tuple(range(1, 97))}
    async with asyncio.timeout(10):
        while min(len(recorder.from_elsewhere) for recorder in heard) < 240:
            await asyncio.sleep(0.01)
    async with await psycopg.AsyncConnection.connect(pooled_url, autocommit=True, prepare_threshold=None) as another:
        for _ in range(20):
            for setting in ("lock_timeout", "statement_timeout"):
                assert await (await another.execute(f"SHOW {setting}")).fetchone() == ("0",)
    for log in logs:
        await log.close()


async def test_transactions_behind_a_pooler_have_their_own_time_limits(pooled_url: str, postgres_url: str) -> None:
    log = SqlMessageLog(pooled_url, notify_url=postgres_url)
    await log.open(Recorder())
    await log.append(Draft("general", "ada", "one"))
    seen: list[str] = []
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
        await admin.execute("CREATE TABLE seen (lock_timeout text, statement_timeout text)")
        await admin.execute(
            "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO seen VALUES ("
            "current_setting('lock_timeout'), current_setting('statement_timeout')); "
            "RETURN NULL; END $$"
        )
        await admin.execute("CREATE TRIGGER look AFTER INSERT ON messages EXECUTE FUNCTION look()")
        await log.append(Draft("general", "ada", "two"))
        seen += await (await admin.execute("SELECT * FROM seen")).fetchone() or ()
    assert seen == ["2s", "4s"]
    await log.close()


async def test_pooler_without_a_notify_url_is_warned_of_and_works(
    pooled_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = SqlMessageLog(pooled_url)
    recorder = Recorder()
    with caplog.at_level(logging.WARNING):
        await log.open(recorder)
        async with asyncio.timeout(10):
            await recorder.gap.wait()
        for number in range(1, 21):
            appended = await log.append(Draft("general", "ada", str(number)))
            assert appended.message.sequence == number
            await asyncio.sleep(2 * WINDOW_SECONDS)  # A NOTIFY for each: what is sent often would be prepared.
        await log.close()
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "Set RAQCOON_NOTIFY_URL" in warning
