"""Pieces lie in runs, few rows are marks, and nothing of that can be seen from outside."""

import asyncio
import os
import random
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from changes import MessageChange, MessageChangeKind
from message_log import migrate as migrating
from message_log.change_rows import COLUMNS, RUN_BYTES, SPAN_MAX, WRITTEN, Place, as_changes, rows_of
from message_log.database_url import dialect_of
from message_log.growth import Growth, GrowthPolicy
from message_log.sql import SqlMessageLog
from messages import Draft
from tests.message_log.recorder import Recorder, append, everything
from tests.message_log.test_log_changes import all_changes, edit, erase, grow, piece

APPENDED, COMPLETED, EDITED, ERASED = MessageChangeKind
PIECES = 2_000
PIECE = "x" * 32
NAMES = [name for name, _ in WRITTEN]

some_pieces = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(list(MessageChangeKind)), st.text(max_size=40) | st.just("é" * 900)),
    max_size=60,
)


def made_of(steps: list[tuple[int, MessageChangeKind, str]], sequence: int, revisions: dict[int, int]) -> Any:
    for of, kind, given_text in steps:
        sequence += 1
        revisions[of] = revisions.get(of, 0) + 1
        yield MessageChange(
            "c",
            sequence,
            of,
            kind,
            revisions[of],
            given_text or "-" if kind is APPENDED else None,
            given_text or "-" if kind is EDITED else None,
            "ada",
            datetime(2026, 1, 1, tzinfo=UTC),
            "e",
        )


@given(batches=st.lists(some_pieces, max_size=12))
def test_rows_are_the_changes_again_and_marks_cover_every_row_of_their_message(
    batches: list[list[tuple[int, MessageChangeKind, str]]],
) -> None:
    rows: list[dict[str, Any]] = []
    made: list[MessageChange] = []
    covered: dict[Place, int] = {}
    revisions: dict[int, int] = {}
    for steps in batches:
        changes = list(made_of(steps, len(made), revisions))
        made += changes
        rows += [dict(zip(NAMES, row, strict=True)) for row in rows_of(changes, covered)]
    assert list(as_changes(([row[column.name] for column in COLUMNS] for row in rows), "e")) == made
    marks = [row for row in rows if row["span"]]
    for row in rows:
        covering = [
            mark
            for mark in marks
            if mark["message_sequence"] == row["message_sequence"]
            and mark["sequence"] <= row["sequence"] < mark["sequence"] + mark["span"]
        ]
        assert covering
        assert all(mark["revision"] > row["revision"] - SPAN_MAX for mark in covering)
        assert row["run"] == 1 or len(row["text"].encode()) <= RUN_BYTES + 1


async def test_reading_begins_and_ends_inside_a_run(log: SqlMessageLog) -> None:
    await grow(log)
    await asyncio.gather(*(log.change(piece(number, f"<{number}>")) for number in range(60)))
    whole = await all_changes(log)
    assert [change.piece for change in whole] == [f"<{number}>" for number in range(60)]
    for after in (0, 1, 17, 58, 59, 60):
        for limit in (1, 2, 30, 100):
            read = await log.changes.read("general", after=after, limit=limit, max_bytes=10_000)
            assert read == whole[after : after + limit]
            many = await log.changes.read_many({"general": after, "other": 0}, limit=limit, max_bytes=10_000)
            assert many == ({"general": read} if read else {})
    assert len(await log.changes.read("general", after=5, limit=100, max_bytes=9)) == 4  # It ends once it is exceeded.
    assert await log.changes.oldest_sequence("general") == 1


async def test_messages_that_grow_side_by_side_are_each_found_whole(log: SqlMessageLog, recorder: Recorder) -> None:
    lot = random.Random(4)
    (*first,) = await append(log, *(Draft("general", "ada", "It", complete=False) for _ in range(7)))
    texts = {appended.message.sequence: ["It"] for appended in first}
    for _ in range(40):
        drafts = []
        for of in lot.choices(list(texts), k=lot.randint(1, 20)):
            drafts.append(piece(len(texts[of]) - 1, f" {lot.random()}", of=of))
            texts[of].append(drafts[-1].text or "")
        await asyncio.gather(*map(log.change, drafts))
        if lot.random() < 0.1:  # What was remembered is lost.
            await log.close()
            await log.open(recorder)
        of = lot.choice(list(texts))
        again = await log.change(piece(len(texts[of]) - 2, texts[of][-1], of=of)) if len(texts[of]) > 1 else None
        assert again is None or not again.created
    assert {m.sequence: m.content for m in await everything(log)} == {of: "".join(each) for of, each in texts.items()}
    await log.change(erase(3))
    assert {change.piece for change in await all_changes(log) if change.message_sequence == 3} == {None}
    assert all(change.piece for change in await all_changes(log) if change.message_sequence != 3)


async def test_message_that_still_grows_is_not_completed_though_little_is_noted(
    sqlite_url: str, recorder: Recorder
) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    log = SqlMessageLog(sqlite_url, now=lambda: moment)
    await log.open(recorder)
    await grow(log, " was")
    growth = Growth(log, GrowthPolicy(growing_timeout_seconds=3), now=lambda: moment)
    for number in range(1, 12):
        moment += timedelta(seconds=2)
        await log.change(piece(number, "."))
        assert await growth.run_once() == 0
    moment += timedelta(seconds=4)
    assert await growth.run_once() == 1
    assert [message.complete for message in await everything(log)] == [True]
    await log.close()


async def test_counter_of_changes_never_goes_back_when_all_were_removed(log: SqlMessageLog, recorder: Recorder) -> None:
    await grow(log, "a", "b")
    await log.remove_before("general", 10)
    assert await all_changes(log) == []
    assert await log.changes.last_sequence("general") == 2
    assert await log.changes.oldest_sequence("general") == 3
    await log.close()
    await log.open(recorder)
    await grow(log, "c")
    assert [change.sequence for change in await all_changes(log)] == [3]


@pytest.mark.parametrize(("under_way", "times", "count"), [(32, 20, PIECES), (1, 250, 200)])
async def test_message_in_many_pieces_is_written_few_times(
    tmp_path: Path, recorder: Recorder, under_way: int, times: int, count: int
) -> None:
    """By the size of the write-ahead log, which holds every page that a commit has written. One piece at a time is a
    commit each, and a page is 4 KiB: 129 times its size would be no page but one for each."""
    path = tmp_path / "log.db"
    log = SqlMessageLog(f"sqlite:///{path}")
    await log.open(recorder)
    await grow(log)
    answers: list[asyncio.Task[Any]] = []
    for number in range(count):
        if number >= under_way:
            await answers[number - under_way]
        answers.append(asyncio.create_task(log.change(piece(number, PIECE))))
        await asyncio.sleep(0)
    await asyncio.gather(*answers)
    written = os.stat(f"{path}-wal").st_size
    assert written <= times * count * len(PIECE), written
    assert (await everything(log))[0].content == "It" + PIECE * count
    await log.close()


async def test_database_of_before_is_migrated_and_its_messages_go_on_growing(log_url: str, recorder: Recorder) -> None:
    dialect = dialect_of(log_url)
    dialect.claim()
    engine = dialect.engine(1)
    with engine.connect() as connection:
        dialect.begin_migration(connection)
        config = Config()
        config.set_main_option("script_location", str(migrating._SCRIPTS))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        for statement in (
            "INSERT INTO log_info (id, epoch) VALUES (1, 'e')",
            "INSERT INTO channels (channel_id, last_sequence, last_change) VALUES ('general', 1, 30)",
            "INSERT INTO messages (channel_id, sequence, timestamp, author, content, revision, complete) "
            "VALUES ('general', 1, 1, 'ada', 'It', 0, 0)",
            "INSERT INTO growing (channel_id, sequence, revision, touched_at) VALUES ('general', 1, 30, 1)",
        ):
            connection.exec_driver_sql(statement)
        insert = text(
            "INSERT INTO changes (channel_id, sequence, message_sequence, revision, kind, timestamp, author, text) "
            "VALUES ('general', :at, 1, :at, 0, 1, 'ada', :piece)"
        )
        connection.execute(insert, [{"at": at, "piece": f"<{at}>"} for at in range(1, 31)])
        connection.exec_driver_sql("COMMIT")
    engine.dispose()
    dialect.release()
    log = SqlMessageLog(log_url)
    await log.open(recorder)
    whole = "It" + "".join(f"<{at}>" for at in range(1, 31))
    assert [message.content for message in await everything(log)] == [whole]
    assert not (await log.change(piece(7, "<8>"))).created
    await asyncio.gather(*(log.change(piece(number, "+")) for number in range(30, 50)))
    assert [message.content for message in await everything(log)] == [whole + "+" * 20]
    assert [change.sequence for change in await all_changes(log)] == list(range(1, 51))
    assert len(await log.growing_since(datetime.now(UTC) + timedelta(hours=1), limit=5)) == 1
    await log.change(edit("done"))
    await log.change(erase())
    assert {change.piece for change in await all_changes(log)} == {None}
    await log.close()


async def test_queries_by_message_walk_the_index_of_marks(sqlite_url: str, recorder: Recorder) -> None:
    log = SqlMessageLog(sqlite_url)
    await log.open(recorder)
    await grow(log, "a")
    changing = log._dialect._changing  # type: ignore[attr-defined]
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as connection:
        for statement in (changing._since, changing._made, changing._blank):
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", ("[]",))]
            assert any("changes_by_message" in step for step in plan), plan
            assert not any(step.startswith(("SCAN s", "SCAN c", "SCAN changes")) for step in plan), plan
    await log.close()
