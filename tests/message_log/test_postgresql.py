"""What only a PostgreSQL log meets: lost connections, locks of others, and several servers."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, cast

import psycopg
import pytest
from sqlalchemy import make_url

from errors import BadUserInput, StartupError, Unavailable
from message_log.batch import Batch
from message_log.plain_posts import PlainPosts
from message_log.postgresql import PostgresqlDialect
from message_log.protocol import Appended
from message_log.sql import SqlMessageLog
from message_log.writer import WriterLimits
from messages import SEQUENCE_MAX, Draft
from tests.message_log.recorder import Recorder, append, everything, held_back, post
from tests.message_log.test_log_changes import grow, piece
from tests.server_process import free_port


@pytest.fixture
async def admin(postgres_url: str) -> AsyncIterator[psycopg.AsyncConnection[Any]]:
    """An operator's connection to the log's database."""
    async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as connection:
        yield connection


async def end_sessions(admin: psycopg.AsyncConnection[Any]) -> None:
    await admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'raqcoon' AND datname = current_database()"
    )


async def test_location_names_no_user_and_no_password() -> None:
    log = SqlMessageLog("postgresql://user:secret@db.example:5433/chat?sslmode=disable")
    assert log.location == "postgresql://db.example:5433/chat"
    assert not log.exclusive


@pytest.mark.parametrize("problem", ["nobody listens", "no such database", "not UTF-8"])
async def test_open_of_an_unusable_database_is_one_clear_line(postgres_server: str, problem: str) -> None:
    url = make_url("postgresql://u:secret@127.0.0.1:1/x")
    if problem == "no such database":
        url = make_url(postgres_server).set(database="raqcoon_absent")
    if problem == "not UTF-8":
        url = make_url(postgres_server).set(database="raqcoon_latin1")
        async with await psycopg.AsyncConnection.connect(postgres_server, autocommit=True) as connection:
            await connection.execute("DROP DATABASE IF EXISTS raqcoon_latin1")
            await connection.execute("CREATE DATABASE raqcoon_latin1 TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    log = SqlMessageLog(url.render_as_string(hide_password=False))
    with pytest.raises(StartupError, match="database postgresql://") as refused:
        await log.open(Recorder())
    assert "\n" not in str(refused.value)
    assert "secret" not in str(refused.value)


async def test_logs_that_open_together_migrate_once(postgres_url: str) -> None:
    logs = [SqlMessageLog(postgres_url, readers=1) for _ in range(5)]
    await asyncio.gather(*(log.open(Recorder()) for log in logs))
    assert len({log.epoch for log in logs}) == 1
    await asyncio.gather(*(post(log, *"abcdefgh") for log in logs))
    assert [message.sequence for message in await everything(logs[0])] == list(range(1, 41))
    await asyncio.gather(*(log.close() for log in logs))


async def test_two_logs_with_many_channels_and_shared_keys_never_deadlock(postgres_url: str) -> None:
    recorders = [Recorder(), Recorder()]
    logs = [SqlMessageLog(postgres_url) for _ in recorders]
    for log, recorder in zip(logs, recorders, strict=True):
        await log.open(recorder)

    async def poster(log: SqlMessageLog, author: int) -> None:
        for i in range(30):
            channel_id = f"c{(i * 7 + author * 3) % 10}"
            await log.append(Draft(channel_id, "ada", f"{channel_id} {i % 15}", idempotency_key=str(i % 15)))
            await log.append(Draft(channel_id, f"poster{author}", str(i)))

    await asyncio.gather(*(poster(log, author) for author in range(8) for log in logs))
    published = [message.id for recorder in recorders for message in recorder.messages]
    assert len(published) == len(set(published))
    for i in range(10):
        held = await everything(logs[i % 2], f"c{i}")
        assert [message.sequence for message in held] == list(range(1, len(held) + 1))
        keyed = [message.content for message in held if message.author == "ada"]
        assert len(keyed) == len(set(keyed))
    assert (await logs[0].totals()).messages == len(published)
    for log in logs:
        await log.close()


async def test_sessions_ended_while_posting_lose_and_repeat_nothing(
    postgres_url: str, admin: psycopg.AsyncConnection[Any]
) -> None:
    recorder = Recorder()
    log = SqlMessageLog(postgres_url)
    await log.open(recorder)
    acknowledged: list[str] = []
    refused: list[str] = []
    done = False

    async def poster(author: str) -> None:
        i = 0
        while not done:
            i += 1
            content = f"{author} {i}"
            try:
                acknowledged.append((await log.append(Draft("general", author, content))).message.content)
            except Unavailable:
                refused.append(content)

    posters = [asyncio.create_task(poster(f"poster{i}")) for i in range(8)]
    async with asyncio.timeout(50):
        for i in range(40):
            goal = len(acknowledged) + i
            while len(acknowledged) < goal:
                await asyncio.sleep(0.002)
            await asyncio.sleep(0.0005 * (i % 5))  # at every moment of a commit, sooner or later
            await end_sessions(admin)
    done = True
    await asyncio.gather(*posters)
    held = await everything(log)
    contents = [message.content for message in held]
    assert [message.sequence for message in held] == list(range(1, len(held) + 1))
    assert len(contents) == len(set(contents))
    assert set(acknowledged) <= set(contents) <= set(acknowledged) | set(refused)
    assert len(acknowledged) > 100
    assert len(refused) < len(acknowledged) / 10
    await log.close()


async def test_channel_locked_by_another_session_is_unavailable_then_recovers(
    postgres_url: str, admin: psycopg.AsyncConnection[Any]
) -> None:
    log = SqlMessageLog(postgres_url)
    await log.open(Recorder())
    await post(log, "first")
    began = time.monotonic()
    async with admin.transaction():
        await admin.execute("UPDATE channels SET last_sequence = last_sequence")
        with pytest.raises(Unavailable):
            await post(log, "locked out")
        assert await log.last_sequence("general") == 1  # readers do not care
    assert time.monotonic() - began < 8
    assert [message.sequence for message in await post(log, "again")] == [2]
    await log.close()


async def test_only_plain_posts_take_one_round_trip(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SqlMessageLog(postgres_url)
    await log.open(Recorder())
    in_steps: list[Draft] = []
    append_in_steps, append_plain = PostgresqlDialect._append_in_steps, PostgresqlDialect._append_plain
    tried: list[Draft] = []

    def note(self: PostgresqlDialect, driver: Any, drafts: Any, *more: Any) -> Batch:
        in_steps.extend(drafts)
        return append_in_steps(self, driver, drafts, *more)

    def note_plain(self: PostgresqlDialect, driver: Any, drafts: Any, *more: Any) -> Batch | None:
        tried.extend(drafts)
        return append_plain(self, driver, drafts, *more)

    monkeypatch.setattr(PostgresqlDialect, "_append_in_steps", note)
    monkeypatch.setattr(PostgresqlDialect, "_append_plain", note_plain)
    await post(log, "plain", "plain too")
    keyed = Draft("general", "ada", "x", idempotency_key="k")
    assert (await log.append(keyed)).created
    assert in_steps == []
    for draft in (keyed, Draft("general", "ada", "It", complete=False)):
        await log.append(draft)
        assert in_steps.pop() == draft
    twice = Draft("general", "ada", "y", idempotency_key="l")
    async with held_back(log):
        both = asyncio.create_task(append(log, twice, twice))
    assert [answer.created for answer in await both] == [True, False]
    assert in_steps == [twice, twice]
    assert twice not in tried  # The database would refuse it, and would write that into its log.
    assert [message.content for message in await everything(log)] == ["plain", "plain too", "x", "It", "y"]
    await log.close()


async def test_key_that_another_node_uses_at_the_same_moment_names_its_message(
    postgres_url: str, admin: psycopg.AsyncConnection[Any]
) -> None:
    """The statement begins before the other transaction is committed, so it cannot see the message. The index can."""
    log = SqlMessageLog(postgres_url)
    await log.open(Recorder())
    await post(log, "first")
    async with admin.transaction():
        await admin.execute("UPDATE channels SET last_sequence = 2")
        await admin.execute(
            "INSERT INTO messages (channel_id, sequence, timestamp, author, content, idempotency_key) "
            "VALUES ('general', 2, 0, 'ada', 'x', 'k')"
        )
        # Alone in its batch: if a batch of several is refused, the halves are tried again.
        answer = asyncio.create_task(log.append(Draft("general", "ada", "x", idempotency_key="k")))
        await asyncio.sleep(0.3)
        assert not answer.done()
    appended = await answer
    assert (appended.message.sequence, appended.created) == (2, False)
    assert [message.sequence for message in await post(log, "new")] == [3]
    await log.close()


async def test_posts_to_a_full_channel_fail_alone(postgres_url: str, admin: psycopg.AsyncConnection[Any]) -> None:
    log = SqlMessageLog(postgres_url)
    await log.open(Recorder())
    await post(log, "first", channel_id="full")
    await admin.execute("UPDATE channels SET last_sequence = %s", (SEQUENCE_MAX - 1,))
    drafts = [Draft(channel_id, "ada", "x") for channel_id in ("full", "general", "full", "general")]
    async with held_back(log):
        posts = [asyncio.ensure_future(log.append(draft)) for draft in drafts]
    outcomes = await asyncio.gather(*posts, return_exceptions=True)
    sequences = [outcome.message.sequence if isinstance(outcome, Appended) else None for outcome in outcomes]
    assert sequences == [SEQUENCE_MAX, 1, None, 2]
    assert isinstance(outcomes[2], BadUserInput)
    assert await log.last_sequence("full") == SEQUENCE_MAX
    assert (await log.totals()).messages == 4
    await log.close()


@pytest.mark.alone
async def test_server_that_stalls_is_unavailable_in_seconds_then_recovers(
    postgres_url: str, admin: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table lock stands in for the stall: the writer's own limits are switched off, so only the watchdog is left."""
    monkeypatch.setattr("message_log.postgresql.OF_SESSION", "SELECT 1")
    log = SqlMessageLog(postgres_url, limits=WriterLimits(timeout_seconds=0.5))
    await log.open(Recorder())
    await post(log, "first")
    async with admin.transaction():
        await admin.execute("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        results = await asyncio.gather(
            post(log, "stalled"), log.read("general", after=0, limit=1, max_bytes=1), return_exceptions=True
        )
        assert [type(result) for result in results] == [Unavailable, Unavailable]
        assert time.monotonic() - began < 3
    async with asyncio.timeout(10):
        while True:
            try:
                await post(log, "again")
                break
            except Unavailable:
                continue
    held = await everything(log)
    assert [message.sequence for message in held] == list(range(1, len(held) + 1))
    assert [message.content for message in held].count("stalled") <= 1
    await log.close()


async def test_reads_reconnect_by_themselves(postgres_url: str, admin: psycopg.AsyncConnection[Any]) -> None:
    log = SqlMessageLog(postgres_url)
    await log.open(Recorder())
    (message,) = await post(log, "first")
    for _ in range(3):
        await asyncio.gather(*(log.message("general", 1) for _ in range(8)))  # every reader has a connection
        await end_sessions(admin)
        assert await log.message("general", 1) == message
        assert await log.ready()
    await log.close()


async def test_database_that_is_gone_is_unavailable_and_not_ready(
    postgres_url: str, admin: psycopg.AsyncConnection[Any]
) -> None:
    log = SqlMessageLog(postgres_url)
    await log.open(Recorder())
    await post(log, "first")
    await admin.execute("ALTER TABLE messages RENAME TO gone")
    await admin.execute("ALTER TABLE log_info RENAME TO gone_too")
    for call in (post(log, "x"), log.read("general", after=0, limit=1, max_bytes=1)):
        with pytest.raises(Unavailable):
            await call
    assert not await log.ready()
    await admin.execute("ALTER TABLE gone RENAME TO messages")
    await admin.execute("ALTER TABLE gone_too RENAME TO log_info")
    assert await log.ready()
    assert [message.sequence for message in await post(log, "again")] == [2]
    await log.close()


async def test_session_settings_keep_promises(postgres_url: str, admin: psycopg.AsyncConnection[Any]) -> None:
    await admin.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$"
    )
    log = SqlMessageLog(postgres_url)
    await log.open(Recorder())
    parts = log._parts
    assert parts is not None
    with parts.engine.connect() as connection:
        for name, value in {
            "synchronous_commit": "on",
            "lock_timeout": "2s",
            "statement_timeout": "4s",
            "idle_in_transaction_session_timeout": "5s",
        }.items():
            assert connection.exec_driver_sql(f"SHOW {name}").scalar() == value
    await log.close()


async def test_key_lookup_and_reads_use_indexes_in_a_large_table(
    postgres_url: str, admin: psycopg.AsyncConnection[Any]
) -> None:
    log = SqlMessageLog(postgres_url)
    await log.open(Recorder())
    await admin.execute(
        "INSERT INTO messages SELECT 'c' || i % 10, i / 10 + 1, i, 'ada', NULL, NULL, NULL, i::text, 'x' "
        "FROM generate_series(0, 49999) AS i"
    )
    await admin.execute("ANALYZE messages")
    from message_log import postgresql, queries

    async def plan(statement: str, parameters: Any) -> str:
        return "\n".join(row[0] for row in await (await admin.execute(f"EXPLAIN {statement}", parameters)).fetchall())

    keys = [("c1", "ada", str(i)) for i in range(1, 5000, 10)]
    assert "messages_by_key" in await plan(postgresql._EARLIER, postgresql._columns(keys))
    plain = PlainPosts([Draft(*place, "x", idempotency_key=key) for *place, key in keys], datetime.now(UTC), "epoch")
    planned = await plan(plain.statement, plain.parameters("writer", 1))
    assert "messages_by_key" in planned
    assert "Scan on messages" not in planned
    read = queries.Queries(PostgresqlDialect(postgres_url), "")._read
    parts = log._parts
    assert parts is not None
    compiled = read.compile(parts.engine)
    parameters = {**compiled.params, "channel_id": "c1", "after": 10, "before": 4000, "limit": 100, "max_bytes": 10**6}
    assert "messages_pkey" in await plan(str(compiled), parameters)
    assert "Sort" not in await plan(str(compiled), parameters)
    many = (["c1", "c2"], [10, 4_000], 100, 10**6)
    assert parts.queries._read_many is not None
    assert "messages_pkey" in await plan(parts.queries._read_many, many)
    assert "Seq Scan" not in await plan(parts.queries._read_many, many)
    await log.close()


async def test_url_of_several_hosts_finds_the_one_that_takes_writes(postgres_url: str) -> None:
    parsed = make_url(postgres_url)
    there = parsed.query.get("host") or parsed.host
    hosts = (f"127.0.0.1:{free_port()}", f"{there}:{parsed.port or 5432}")
    several = parsed.set(host=None, port=None, query={"host": hosts})
    here, there_too = Recorder(), Recorder()
    logs = [SqlMessageLog(several.render_as_string(hide_password=False)) for _ in range(2)]
    for log, recorder in zip(logs, (here, there_too), strict=True):
        await log.open(recorder)
        async with asyncio.timeout(10):
            await recorder.gap.wait()  # It listens.
    async with asyncio.timeout(10):
        while not there_too.from_elsewhere:
            await post(logs[0], "x")
            await asyncio.sleep(0.01)
    assert "127.0.0.1" in logs[0].location
    for log in logs:
        await log.close()


async def test_server_that_stops_taking_writes_is_left_for_the_one_that_takes_them(postgres_url: str) -> None:
    log = SqlMessageLog(postgres_url)
    await log.open(Recorder())
    await post(log, "first")
    parts = log._parts
    assert parts is not None
    with parts.committer._driver() as driver:
        cast(psycopg.Connection[Any], driver).execute("SET default_transaction_read_only = on")
    assert [message.sequence for message in await post(log, "second")] == [2]
    await log.close()


async def test_message_that_another_node_removes_goes_before_a_piece_or_after_it(
    postgres_url: str, admin: psycopg.AsyncConnection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a piece would be acknowledged for a message that is gone."""
    first, second = SqlMessageLog(postgres_url), SqlMessageLog(postgres_url)
    for log in (first, second):
        await log.open(Recorder())
    await grow(first, " was")
    changing = cast(PostgresqlDialect, first._dialect)._changing
    find, loop = changing._held, asyncio.get_running_loop()
    found, go_on = asyncio.Event(), threading.Event()

    def find_and_wait(*given: Any) -> Any:
        held = find(*given)
        loop.call_soon_threadsafe(found.set)
        go_on.wait(5)
        return held

    monkeypatch.setattr(changing, "_held", find_and_wait)
    appending = asyncio.create_task(first.change(piece(1, " dark")))
    await found.wait()
    removing = asyncio.create_task(second.remove_before("general", 10))
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(5):
        while not removing.done() and not await (await admin.execute(waiting)).fetchall():
            await asyncio.sleep(0.01)
    assert not removing.done(), "the message was removed under the piece"
    go_on.set()
    assert (await appending).created
    assert await removing == 1
    for table in ("messages", "changes", "growing"):
        assert await (await admin.execute(f"SELECT * FROM {table}")).fetchall() == []
    with pytest.raises(BadUserInput):
        await first.change(piece(2, " and"))
    for log in (first, second):
        await log.close()
