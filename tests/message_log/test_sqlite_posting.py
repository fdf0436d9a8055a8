"""A small batch of posts is one statement; whatever is out of the ordinary goes the longer way, to the same effect."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from message_log import sqlite
from message_log.sql import SqlMessageLog
from messages import Draft
from tests.message_log.recorder import Recorder, append, everything, post

TABLES = ("messages", "channels", "totals")
BATCHES = (
    [Draft("a", "ann", "one")],
    [Draft("a", "ann", "two", "code", "p", 3), Draft("b", "bob", "bé 🦝"), Draft("a", "bob", "three", None, "p", 4)],
    [Draft("a", "ann", "keyed", idempotency_key="k")],
    [Draft("a", "ann", "keyed", idempotency_key="k"), Draft("a", "ann", "beside it")],
    [Draft("a", "ann", "new", idempotency_key="l"), Draft("a", "ann", "keyed", idempotency_key="k")],
    [Draft("a", "ann", "twice", idempotency_key="m"), Draft("a", "ann", "twice", idempotency_key="m")],
    [Draft("a", "bob", "of another author", idempotency_key="k"), Draft("b", "ann", "elsewhere", idempotency_key="k")],
    [Draft("a", "ann", str(number), None, "p", number) for number in range(40)],
    [Draft("a", "ann", "last", "code", "p", 0), Draft("c", "ann", "first of its channel")],
)


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """What the tables hold, but for the times."""
    with closing(sqlite3.connect(path)) as connection:
        found = {}
        for table in TABLES:
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[1] != "timestamp"]
            found[table] = sorted(connection.execute(f"SELECT {', '.join(columns)} FROM {table}").fetchall(), key=repr)
        return found


async def stored(path: Path) -> dict[str, list[tuple[object, ...]]]:
    log = SqlMessageLog(f"sqlite:///{path}")
    await log.open(Recorder())
    for batch in BATCHES:
        await append(log, *batch)
    await log.close()
    return rows(path)


async def test_posting_at_once_stores_what_posting_in_steps_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = await stored(tmp_path / "at-once.db")
    monkeypatch.setattr(sqlite, "_AT_ONCE_MAX", 0)
    assert at_once == await stored(tmp_path / "in-steps.db")
    assert len(at_once["messages"]) == 52


async def test_posting_small_batch_is_one_statement(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = SqlMessageLog(sqlite_url)
    await log.open(Recorder())
    await post(log, "the head is known from now on")
    steps: list[Draft] = []
    in_steps = sqlite.SqliteDialect._append_in_steps
    monkeypatch.setattr(
        sqlite.SqliteDialect,
        "_append_in_steps",
        lambda self, connection, drafts, *more: steps.extend(drafts) or in_steps(self, connection, drafts, *more),
    )
    await post(log, "one")
    await post(log, "two", "three")
    keyed = Draft("general", "ada", "four", idempotency_key="k")
    assert (await log.append(keyed)).created
    assert steps == []
    # A repeat is looked up. What is remembered of the channels stays.
    assert not (await log.append(keyed)).created
    assert steps == [keyed]
    await post(log, "five")
    assert steps == [keyed]
    assert [message.sequence for message in await everything(log)] == [1, 2, 3, 4, 5, 6]
    await log.close()


async def test_posting_beside_a_tool_that_posts_too_goes_on_where_it_stands(sqlite_url: str) -> None:
    log = SqlMessageLog(sqlite_url)
    await log.open(Recorder())
    await post(log, "one", "two")
    with closing(sqlite3.connect(log.location, isolation_level=None)) as tool:
        tool.execute(
            "INSERT INTO messages (channel_id, sequence, timestamp, author, content) VALUES ('general', 3, 0, 'x', 'y')"
        )
        tool.execute("UPDATE channels SET last_sequence = 3")
    assert [message.sequence for message in await post(log, "four")] == [4]
    assert [message.sequence for message in await post(log, "five", "six")] == [5, 6]
    assert [message.sequence for message in await everything(log)] == [1, 2, 3, 4, 5, 6]
    await log.close()


async def test_posting_remembers_a_bounded_number_of_heads(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "HEADS_MAX", 5)
    log = SqlMessageLog(sqlite_url)
    await log.open(Recorder())
    for number in range(20):
        await post(log, "x", channel_id=f"c{number}")
    assert len(log._dialect._heads) <= 6  # type: ignore[attr-defined]
    for number in range(20):
        assert [message.sequence for message in await post(log, "y", channel_id=f"c{number}")] == [2]
    await log.close()
