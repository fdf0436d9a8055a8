"""The connection to PostgreSQL is lost in a commit: its outcome is found out, and every post is stored exactly once."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, cast

import psycopg
import pytest
from psycopg.pq import TransactionStatus
from sqlalchemy.engine.interfaces import DBAPIConnection

from errors import Unavailable
from message_log.batch import Batch
from message_log.dialect import InDoubt
from message_log.plain_posts import PlainPosts, all_plain
from message_log.postgresql import PostgresqlDialect
from message_log.protocol import Appended
from message_log.sql import SqlMessageLog
from messages import Draft
from tests.message_log.recorder import Recorder, append, everything, held_back, post


class LosesOneCommit(PostgresqlDialect):
    """Loses its connection in its next transaction. `lose` says when: "after the commit", "before the commit" with the
    session still alive, or "before it began", with the statement still on its way.

    Of the first answer that tells how the transaction has ended, nothing arrives.
    """

    lose: str | None = None
    left_behind: psycopg.Connection[Any] | None = None
    on_its_way: tuple[str, tuple[Any, ...]] | None = None
    refused = 0
    """How often the statement has come too late."""
    told = 0

    def append(self, driver: DBAPIConnection, drafts: Sequence[Any], timestamp: datetime, epoch: str) -> Batch:
        lose, self.lose = self.lose, None
        if lose is None:
            return super().append(driver, drafts, timestamp, epoch)
        plain = PlainPosts(drafts, timestamp, epoch) if all_plain(drafts) else None
        if lose == "after the commit":
            batch = super().append(driver, drafts, timestamp, epoch)
            # Another node goes on before this one finds out what it has committed itself.
            with psycopg.connect(**self._arguments) as connection:
                posts = [Draft("general", "eve", "x")]
                PostgresqlDialect("postgresql://").append(cast(DBAPIConnection, connection), posts, timestamp, epoch)
            raise InDoubt(self._row.commits, plain.batch if plain else lambda heads: batch)
        commit = self._row.begin_commit()
        assert plain is not None or lose == "before the commit"
        parameters = plain.parameters(self._row.writer_id, commit) if plain else ()
        if lose == "before it began":
            assert plain is not None
            self.on_its_way = plain.statement, parameters
        else:
            self.left_behind = psycopg.connect(**self._arguments)
            if plain:
                self.left_behind.execute("BEGIN")
                self.left_behind.execute(plain.statement, parameters)
            else:
                self._begin(self.left_behind, drafts, [], epoch)
        raise InDoubt(commit, plain.batch if plain else lambda heads: Batch([]))

    def settle(self, driver: DBAPIConnection, doubt: InDoubt) -> Batch | None:
        batch = super().settle(driver, doubt)
        self.told += 1
        if self.told == 1:
            raise psycopg.OperationalError("the answer was lost")
        if self.on_its_way:
            self.arrive()
        return batch

    def arrive(self) -> None:
        """The statement that was on its way comes to the database."""
        assert self.on_its_way is not None
        with psycopg.connect(**self._arguments) as connection:
            try:
                connection.execute(*self.on_its_way)
            except psycopg.errors.NotNullViolation:
                self.refused += 1


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def log(postgres_url: str, recorder: Recorder) -> AsyncIterator[SqlMessageLog]:
    """A log that has a message, and whose dialect loses a commit when it is told to."""
    log = SqlMessageLog(postgres_url)
    log._dialect = LosesOneCommit(postgres_url)
    await log.open(recorder)
    await post(log, "first")
    yield log
    await log.close()


def losing(log: SqlMessageLog, lose: str) -> LosesOneCommit:
    dialect = cast(LosesOneCommit, log._dialect)
    dialect.lose = lose
    return dialect


async def left(dialect: LosesOneCommit) -> psycopg.Connection[Any]:
    """The connection that was lost with its transaction open, once there is one and the statement is done."""
    async with asyncio.timeout(10):
        while dialect.left_behind is None or dialect.left_behind.info.transaction_status != TransactionStatus.INTRANS:
            await asyncio.sleep(0.01)
    return dialect.left_behind


def drafts(kind: str) -> list[Draft]:
    """Five posts. Those that begin growing messages are stored in steps, all others by one statement."""
    keyed, growing = kind == "with keys", kind == "growing"
    return [
        Draft("general", "ada", str(i), idempotency_key=str(i) if keyed else None, complete=not growing)
        for i in range(5)
    ]


async def stored(log: SqlMessageLog, recorder: Recorder) -> list[str]:
    """The contents in the log, which are those that the listener was told, apart from what another node has posted."""
    held = await everything(log)
    assert [message.sequence for message in held] == list(range(1, len(held) + 1))
    assert recorder.messages == [message for message in held if message.author == "ada"]
    assert (await log.totals()).messages == len(held)
    return [message.content for message in held]


KINDS = pytest.mark.parametrize("kind", ["without keys", "with keys", "growing"])
PLAIN = pytest.mark.parametrize("kind", ["without keys", "with keys"])


@KINDS
async def test_what_was_committed_is_found_out_although_another_node_has_gone_on(
    log: SqlMessageLog, recorder: Recorder, kind: str
) -> None:
    dialect = losing(log, "after the commit")
    async with held_back(log):
        task = asyncio.create_task(append(log, *drafts(kind)))
    assert [answer.message.sequence for answer in await task] == [2, 3, 4, 5, 6]
    assert dialect.told == 2
    assert await stored(log, recorder) == ["first", *"01234", "x"]


@KINDS
async def test_nobody_goes_past_a_transaction_that_still_holds_its_locks(
    log: SqlMessageLog, recorder: Recorder, kind: str
) -> None:
    dialect = losing(log, "before the commit")
    task = asyncio.create_task(append(log, *drafts(kind)))
    left_behind = await left(dialect)
    # Nobody can know its outcome yet.
    await asyncio.sleep(0.5)
    assert not task.done()
    left_behind.close()
    assert [answer.message.sequence for answer in await task] == [2, 3, 4, 5, 6]
    assert await stored(log, recorder) == ["first", *"01234"]


@PLAIN
async def test_transaction_that_commits_while_it_is_waited_for_counts(
    log: SqlMessageLog, recorder: Recorder, kind: str
) -> None:
    dialect = losing(log, "before the commit")
    task = asyncio.create_task(append(log, *drafts(kind)))
    left_behind = await left(dialect)
    await asyncio.sleep(0.2)
    left_behind.execute("COMMIT")
    left_behind.close()
    assert [answer.message.sequence for answer in await task] == [2, 3, 4, 5, 6]
    assert await stored(log, recorder) == ["first", *"01234"]


async def test_statement_that_was_committed_and_has_stored_nothing_is_followed_by_the_answer(
    log: SqlMessageLog, recorder: Recorder
) -> None:
    first = await log.append(Draft("general", "ada", "once", idempotency_key="k"))
    dialect = losing(log, "before the commit")
    task = asyncio.create_task(log.append(Draft("general", "ada", "once", idempotency_key="k")))
    left_behind = await left(dialect)
    await asyncio.sleep(0.2)
    left_behind.execute("COMMIT")
    left_behind.close()
    assert await task == Appended(first.message, created=False)
    assert await stored(log, recorder) == ["first", "once"]


@PLAIN
async def test_statement_that_comes_after_it_was_given_up_stores_nothing(
    log: SqlMessageLog, recorder: Recorder, kind: str
) -> None:
    dialect = losing(log, "before it began")
    answers = await append(log, *drafts(kind))
    assert dialect.refused == 1  # between the answer that it was not committed, and the next try
    await asyncio.to_thread(dialect.arrive)
    # After the next try; with keys it finds the messages of that try, and does not even try to store.
    assert dialect.refused == (2 if kind == "without keys" else 1)
    assert [answer.message.sequence for answer in answers] == [2, 3, 4, 5, 6]
    assert await stored(log, recorder) == ["first", *"01234"]


async def test_first_statement_of_a_process_that_comes_too_late_stores_nothing(
    postgres_url: str, recorder: Recorder
) -> None:
    """The process has no row then that could be locked."""
    log = SqlMessageLog(postgres_url)
    log._dialect = LosesOneCommit(postgres_url)
    await log.open(recorder)
    dialect = losing(log, "before it began")
    await post(log, "first")
    assert dialect.refused == 1
    assert await stored(log, recorder) == ["first"]
    await log.close()


@KINDS
async def test_outcome_that_cannot_be_found_out_is_unavailable_in_seconds(
    log: SqlMessageLog, recorder: Recorder, kind: str
) -> None:
    dialect = losing(log, "before the commit")
    began = time.monotonic()
    with pytest.raises(Unavailable):
        await log.append(drafts(kind)[0])
    assert time.monotonic() - began < 8
    assert dialect.left_behind is not None
    dialect.left_behind.close()
    assert [message.sequence for message in await post(log, "later")] == [2]
    assert await stored(log, recorder) == ["first", "later"]
