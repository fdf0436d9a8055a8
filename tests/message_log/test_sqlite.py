"""What only a SQLite log meets: files, one server, full disks, and the plans of its queries."""

import asyncio
import itertools
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, event

from errors import StartupError, Unavailable
from message_log import sqlite
from message_log.sql import SqlMessageLog
from message_log.sqlite import SqliteDialect
from messages import Draft, Message, MessageFilter
from tests.message_log.recorder import Recorder, append, everything, post


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("sqlite://", "does not name a SQLite file"),
        ("sqlite:///:memory:", "does not name a SQLite file"),
        ("sqlite:///file:x?uri=true", "does not name a SQLite file"),
        ("mysql://host/name", "is not supported"),
        ("nonsense", "cannot be read"),
        ("postgresql://host:port/name", "cannot be read"),
    ],
)
def test_url_that_names_no_log_is_refused(url: str, complaint: str) -> None:
    with pytest.raises(StartupError, match=complaint) as refused:
        SqlMessageLog(url)
    assert "\n" not in str(refused.value)


async def test_open_creates_the_directory_and_says_where_it_is(tmp_path: Path) -> None:
    log = SqlMessageLog(f"sqlite:///{tmp_path}/deep/er/log.db")
    await log.open(Recorder())
    assert log.exclusive
    assert log.location == f"{tmp_path}/deep/er/log.db"
    assert await log.ready()
    await log.close()


@pytest.mark.parametrize("name", ["log.db", "link.db", "../{}/log.db"])
async def test_second_open_of_one_file_is_refused_until_the_first_closes(tmp_path: Path, name: str) -> None:
    first = SqlMessageLog(f"sqlite:///{tmp_path}/log.db")
    await first.open(Recorder())
    (tmp_path / "link.db").symlink_to(tmp_path / "log.db")
    second = SqlMessageLog(f"sqlite:///{tmp_path}/{name.format(tmp_path.name)}")
    with pytest.raises(StartupError, match=r"another running server holds the SQLite file .*log\.db$"):
        await second.open(Recorder())
    assert len(await post(first, "still open")) == 1
    await first.close()
    await second.open(Recorder())
    assert len(await everything(second)) == 1
    await second.close()


def tables(path: Path) -> list[str]:
    """A SQLite file's tables and their rows, as SQL."""
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


async def test_folder_that_did_not_exist_is_made_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "message_log")
    log = SqlMessageLog(f"sqlite:///{tmp_path}/not/there/log.db")
    for told in (1, 1):
        await log.open(Recorder())
        await log.close()
        assert len([record for record in caplog.records if f"{tmp_path}/not/there" in record.getMessage()]) == told


@pytest.mark.parametrize("kind", ["not a database", "directory", "below a file", "earlier server", "newer version"])
async def test_open_of_an_unusable_file_is_one_clear_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log.db"
    if kind == "not a database":
        path.write_bytes(b"hello, this is no database at all" * 100)
    elif kind == "directory":
        path.mkdir()
    elif kind == "below a file":
        path.write_text("")
        path = path / "log.db"
    else:
        with sqlite3.connect(path) as connection:
            if kind == "earlier server":
                connection.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, content TEXT)")
            else:
                connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
                connection.execute("INSERT INTO alembic_version VALUES ('9999')")
        connection.close()
    before = tables(path) if kind in ("earlier server", "newer version") else None
    log = SqlMessageLog(f"sqlite:///{path}")
    for _ in range(2):  # a refused open lets go of the lock
        with pytest.raises(StartupError) as refused:
            await log.open(Recorder())
        assert str(path) in str(refused.value)
        assert "\n" not in str(refused.value)
        assert "another running server" not in str(refused.value)
    if before is not None:
        assert tables(path) == before


async def fill(log: SqlMessageLog, acknowledged: list[Message]) -> None:
    """Posts until a post fails, and notes those that did not."""
    for i in itertools.count():
        acknowledged += await post(log, f"{i}".ljust(3000))


async def test_full_disk_refuses_posts_and_loses_nothing(
    sqlite_url: str, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    pragmas = sqlite.PRAGMAS
    monkeypatch.setattr(sqlite, "PRAGMAS", (*pragmas, "PRAGMA max_page_count = 100"))
    log = SqlMessageLog(sqlite_url)
    await log.open(recorder)
    acknowledged: list[Message] = []
    with pytest.raises(Unavailable):
        await fill(log, acknowledged)
    assert len(acknowledged) > 10
    assert await everything(log) == acknowledged == recorder.messages
    assert await log.last_sequence("general") == len(acknowledged)
    monkeypatch.setattr(sqlite, "PRAGMAS", pragmas)  # space again: the next connection has it
    acknowledged += await post(log, "after")
    assert await everything(log) == acknowledged
    await log.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.geteuid() != 0:
        pytest.skip("mounting a file system takes root")
    if subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("this machine does not let us mount a file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_really_full_disk_refuses_posts_and_recovers(small_disk: Path, recorder: Recorder) -> None:
    log = SqlMessageLog(f"sqlite:///{small_disk}/log.db")
    await log.open(recorder)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 400_000)
    acknowledged: list[Message] = []
    with pytest.raises(Unavailable):
        await fill(log, acknowledged)
    assert await everything(log) == acknowledged == recorder.messages
    ballast.unlink()
    acknowledged += await post(log, "after")
    assert await everything(log) == acknowledged
    await log.close()


async def test_file_locked_by_a_tool_refuses_posts_then_recovers(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.2)
    log = SqlMessageLog(sqlite_url)
    await log.open(Recorder())
    tool = sqlite3.connect(log.location, isolation_level=None)
    tool.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable):
        await post(log, "locked out")
    assert await log.last_sequence("general") == 0  # readers do not care
    tool.execute("ROLLBACK")
    tool.close()
    assert [message.sequence for message in await post(log, "again")] == [1]
    await log.close()


async def test_slow_query_gives_up_and_frees_its_thread(sqlite_url: str) -> None:
    log = SqlMessageLog(sqlite_url, readers=1)
    await log.open(Recorder())
    parts = log._parts
    assert parts is not None
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
    with pytest.raises(Unavailable):
        await parts.readers.run(lambda connection: connection.exec_driver_sql(endless).scalar(), timeout_seconds=0.1)
    assert await log.last_sequence("general") == 0
    await log.close()


async def test_log_is_ready_though_every_reader_is_busy(sqlite_url: str) -> None:
    log = SqlMessageLog(sqlite_url, readers=1)
    await log.open(Recorder())
    parts = log._parts
    assert parts is not None
    begun, allowed = threading.Event(), threading.Event()

    def lengthy(connection: Connection) -> None:
        begun.set()
        allowed.wait()

    reading = asyncio.create_task(parts.readers.run(lengthy))
    await asyncio.to_thread(begun.wait)
    assert await log.ready()
    allowed.set()
    await reading
    await log.close()


async def test_commits_are_durable_and_readers_do_not_wait(sqlite_url: str) -> None:
    log = SqlMessageLog(sqlite_url)
    await log.open(Recorder())
    parts = log._parts
    assert parts is not None
    with parts.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    await log.close()


async def test_queries_walk_an_index_and_never_sort(sqlite_url: str) -> None:
    log = SqlMessageLog(sqlite_url)
    await log.open(Recorder())
    await append(log, *(Draft(f"c{i % 3}", "ada", str(i), "main", "p", 1, str(i)) for i in range(30)))
    parts = log._parts
    assert parts is not None
    asked: list[tuple[str, Any]] = []

    @event.listens_for(parts.engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    filter = MessageFilter(authors=frozenset({"ada"}), lanes=frozenset({"main"}))
    await log.last_sequence("c1")
    await log.last_sequences(["c0", "c1"])
    await log.read("c1", after=2, limit=10, max_bytes=1000)
    for backwards in (False, True):
        await log.history("c1", after=1, before=9, limit=5, backwards=backwards)
        await log.history("c1", after=1, before=9, limit=5, backwards=backwards, filter=filter)
    await log.message("c1", 2)
    await log.repeated(Draft("c1", "ada", "x", idempotency_key="k"))
    await log.oldest_sequence("c1")
    await log.oldest_of_all(limit=5)
    await log.channels(after="c0", limit=5)
    dialect = log._dialect
    assert isinstance(dialect, SqliteDialect)
    # What is asked of the driver itself.
    asked += [(text, [1] * len(names)) for text, names, _ in dialect._statements.values()]
    await log.close()

    assert len(asked) >= 13
    connection = sqlite3.connect(log.location)
    for statement, parameters in asked:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
        for step in plan:
            assert "TEMP B-TREE" not in step, (statement, plan)
            over_all = step == "SCAN messages USING INDEX messages_by_time" and "json_each" not in statement
            assert not step.startswith(("SCAN messages", "SCAN channels")) or over_all, (statement, plan)
    for statement, rows in ((sqlite._EARLIER, [["c1", "ada", "1"]]), (sqlite._HEADS, ["c1"])):
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", (sqlite._json(rows),))]
        assert any("SEARCH" in step for step in plan)
        assert not any("SCAN m" in step or "SCAN channels" in step for step in plan), plan
    connection.close()


@pytest.fixture
def short_switch_interval() -> Iterator[None]:
    """As the server sets it. A loop that gives up the GIL more often than the interval, if only for a moment, keeps
    waking the writer too early and too late: with Python's 5 ms it can starve it for minutes."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("short_switch_interval")
async def test_posts_are_stored_beside_a_busy_event_loop(sqlite_url: str) -> None:
    log = SqlMessageLog(sqlite_url)
    await log.open(Recorder())
    loop = asyncio.get_running_loop()
    busy = True

    def spin() -> None:
        stop = loop.time() + 0.002
        while loop.time() < stop:
            pass
        if busy:
            loop.call_soon(spin)

    spin()
    async with asyncio.timeout(10):
        await post(log, *map(str, range(64)))
    busy = False
    await log.close()


async def test_failed_read_logs_what_failed_and_not_who_asked_for_what(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = SqlMessageLog(f"sqlite:///{tmp_path}/log.db")
    await log.open(Recorder())
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute("DROP TABLE messages")
    connection.close()
    with pytest.raises(Unavailable):
        await log.repeated(Draft("secret-project", "ada", "x", idempotency_key="key-7"))
    await log.close()
    assert "no such table: messages" in caplog.text
    assert "secret-project" not in caplog.text


async def test_removal_of_a_large_surplus_takes_its_batch_s_time_and_not_the_surplus_s(tmp_path: Path) -> None:
    log = SqlMessageLog(f"sqlite:///{tmp_path}/log.db")
    await log.open(Recorder())
    with sqlite3.connect(tmp_path / "log.db") as connection:
        connection.execute(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 200000) "
            "INSERT INTO messages (channel_id, sequence, timestamp, author, content) "
            "SELECT 'general', i, i, 'ada', CAST('x' AS BLOB) FROM n"
        )
        connection.execute("INSERT INTO channels (channel_id, last_sequence) VALUES ('general', 200000)")
    connection.close()
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    parts = log._parts
    assert parts is not None
    committer = parts.committer
    with committer._driver() as driver:
        driver.set_progress_handler(count, 1_000)  # type: ignore[attr-defined]
    assert await log.remove_before("general", 190_000, batch=100) >= 100
    per_batch = steps / 1_900
    assert per_batch < 30, "thousands of SQLite's steps; looking at the whole surplus takes hundreds of thousands"
    await log.close()
