"""What happens to a SQLite log when its files are taken away, the disk is full, or a page is damaged."""

import asyncio
import logging
import os
import resource
import shutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from errors import LogDamaged, Unavailable
from message_log import sqlite, sqlite_files
from message_log.protocol import Appended
from message_log.sql import SqlMessageLog
from messages import Draft
from tests.message_log.recorder import Recorder, everything, post

Undo = Callable[[], object]


def removed(path: Path) -> None:
    path.unlink()


def exists(path: Path) -> bool:
    return path.exists()


def moved(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


def replaced(path: Path) -> None:
    copy = path.with_name("copy")
    shutil.copy(path, copy)
    copy.replace(path)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    found = tmp_path / "data"
    found.mkdir()
    return found


def restored(path: Path) -> None:
    """Replaced by a tool that gives the folder the times that it had, as `rsync -a` does."""
    before = path.parent.stat()
    replaced(path)
    os.utime(path.parent, ns=(before.st_atime_ns, before.st_mtime_ns))


def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is looked up from now on, without their folders."""
    names: list[str] = []
    stat = os.stat

    def note(name: str) -> os.stat_result:
        names.append(Path(name).name)
        return stat(name)

    monkeypatch.setattr(sqlite_files.os, "stat", note)
    return names


@pytest.mark.parametrize("settled", [False, True], ids=["new folder", "settled folder"])
@pytest.mark.parametrize("harm", [removed, replaced, restored])
@pytest.mark.parametrize("name", ["log.db", "log.db-wal", "log.db-shm", "log.db.lock"])
async def test_file_taken_away_refuses_posts_and_is_not_ready(
    directory: Path,
    name: str,
    harm: Callable[[Path], None],
    settled: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, recorder = SqlMessageLog(f"sqlite:///{directory}/log.db"), Recorder()
    await log.open(recorder)
    if settled:
        monkeypatch.setattr(sqlite_files, "SETTLED_SECONDS", 0.05)
        await asyncio.sleep(0.1)
    await post(log, "stored")
    assert await log.ready()
    harm(directory / name)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(Unavailable):
                await post(log, "into nowhere")
    assert not await log.ready()
    assert len(recorder.messages) == 1, "what is not acknowledged is not delivered either"
    [line] = [record.getMessage() for record in caplog.records if "cannot be committed" in record.getMessage()]
    assert f"{directory}/{name} " in line
    assert "restart" in line
    await log.close()


async def test_commit_looks_up_only_the_folder_once_that_has_settled(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SqlMessageLog(f"sqlite:///{directory}/log.db")
    await log.open(Recorder())
    files = ["log.db", "log.db-wal", "log.db-shm", "log.db.lock"]
    await post(log, "x")
    with monkeypatch.context() as patch:
        names = looks(patch)
        await post(log, "into a new folder")
    assert names == [directory.name, *files]
    monkeypatch.setattr(sqlite_files, "SETTLED_SECONDS", 0.05)
    await asyncio.sleep(0.1)
    await post(log, "the last look at the files")
    with monkeypatch.context() as patch:
        names = looks(patch)
        await post(log, "y")
        await post(log, "z")
    assert names == [directory.name] * 2
    (directory / "beside").touch()
    with monkeypatch.context() as patch:
        names = looks(patch)
        await post(log, "the folder has changed")
    assert names == [directory.name, *files]
    await log.close()


async def test_directory_that_comes_back_is_used_again(directory: Path) -> None:
    log = SqlMessageLog(f"sqlite:///{directory}/log.db")
    await log.open(Recorder())
    acknowledged = await post(log, "before")
    away = moved(directory, "away")
    with pytest.raises(Unavailable):
        await post(log, "unknown")
    assert not await log.ready()
    assert not exists(directory), "nothing is made anew where the log was"
    moved(away, directory.name)
    assert await log.ready()
    acknowledged += await post(log, "after")
    held = await everything(log)
    assert [message for message in held if message.content != "unknown"] == acknowledged
    await log.close()
    again = SqlMessageLog(f"sqlite:///{directory}/log.db")
    await again.open(Recorder())
    assert await everything(again) == held
    await again.close()


async def test_commit_during_which_the_files_were_away_is_told_before_its_repeat_is_acknowledged(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, recorder = SqlMessageLog(f"sqlite:///{directory}/log.db"), Recorder()
    await log.open(recorder)
    (first,) = await post(log, "first")
    away: list[Path] = []

    def plan_and_move(*arguments: object, **options: object) -> object:
        away.append(moved(directory, "away"))
        return planned(*arguments, **options)  # type: ignore[arg-type]

    planned = sqlite.plan
    draft = Draft("general", "ada", "stored and not vouched for", idempotency_key="key")
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "plan", plan_and_move)
        with pytest.raises(Unavailable):
            await log.append(draft)
    assert recorder.messages == [first]
    moved(away[0], directory.name)
    repeat = await log.append(draft)
    assert not repeat.created
    assert recorder.messages == [first, repeat.message]
    (third,) = await post(log, "third")
    assert recorder.messages == [first, repeat.message, third]
    await log.close()


async def test_file_removed_during_the_commit_acknowledges_nothing(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SqlMessageLog(f"sqlite:///{directory}/log.db")
    await log.open(Recorder())

    def plan_and_remove(*arguments: object, **options: object) -> object:
        (directory / "log.db").unlink()
        return planned(*arguments, **options)  # type: ignore[arg-type]

    planned = sqlite.plan
    monkeypatch.setattr(sqlite, "plan", plan_and_remove)
    with pytest.raises(Unavailable):
        await post(log, "into nowhere")
    await log.close()


async def test_reads_go_on_while_the_file_is_away(directory: Path) -> None:
    log = SqlMessageLog(f"sqlite:///{directory}/log.db")
    await log.open(Recorder())
    acknowledged = await post(log, "one", "two")
    assert await everything(log) == acknowledged
    moved(directory / "log.db", "elsewhere.db")
    assert await log.last_sequence("general") == 2
    await log.close()


@contextmanager
def full_disk(wal: Path) -> Iterator[None]:
    """No file of this process may grow beyond what the write-ahead log has by now."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_full_disk_is_not_ready_though_nobody_posts(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("message_log.sql.PROVEN_SECONDS", 0.0)
    log = SqlMessageLog(f"sqlite:///{directory}/log.db")
    await log.open(Recorder())
    await post(log, "x")
    assert await log.ready()
    with full_disk(directory / "log.db-wal"):
        assert not await log.ready()
    assert await log.ready()
    await log.close()


async def test_refused_commit_is_not_ready_at_once(directory: Path) -> None:
    log = SqlMessageLog(f"sqlite:///{directory}/log.db")
    await log.open(Recorder())
    await post(log, "x")
    with full_disk(directory / "log.db-wal"):
        with pytest.raises(Unavailable):
            await post(log, "y")
        assert not await log.ready()
    await log.close()


async def test_readiness_grows_nothing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("message_log.sql.PROVEN_SECONDS", 0.0)
    monkeypatch.setattr("message_log.sql.PROBE_SECONDS", 60.0)  # How long a look takes is not the question here.
    log = SqlMessageLog(f"sqlite:///{directory}/log.db")
    sizes = []
    for looks in (0, 1200):  # Past the 1,000 pages after which the write-ahead log begins anew.
        await log.open(Recorder())
        for _ in range(looks):
            assert await log.ready()
        if looks:
            assert (directory / "log.db-wal").stat().st_size < 1100 * 4120
        await log.close()
        sizes.append((directory / "log.db").stat().st_size)
    assert sizes[0] == sizes[1]


READS: list[Callable[[SqlMessageLog], Awaitable[object]]] = [
    lambda log: log.read("general", after=100, limit=200, max_bytes=10**7),
    lambda log: log.history("general", limit=200, backwards=True),
    lambda log: log.message("general", 150),
    lambda log: log.oldest_of_all(limit=300),
    lambda log: log.append(Draft("general", "ada", "more")),
]


@pytest.fixture
async def damaged(directory: Path) -> SqlMessageLog:
    """A log of two channels; the pages of the messages of one are garbage, and those of the other are not."""
    path = directory / "log.db"
    log = SqlMessageLog(f"sqlite:///{path}")
    await log.open(Recorder())
    # The other one's come last, and are many: so the newest entries of the index by time are whole.
    for channel_id in ("general", "a"):
        await post(log, *(f"{i}".ljust(200) for i in range(300)), channel_id=channel_id)
    await log.close()
    data = bytearray(path.read_bytes())
    page = int.from_bytes(data[16:18], "big")
    for start in range(0, len(data), page):
        if data[start : start + page].count(b"general") > 2:
            data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)
    return log


@pytest.mark.parametrize("read", READS)
async def test_damaged_page_is_told_and_the_rest_goes_on(
    damaged: SqlMessageLog, read: Callable[[SqlMessageLog], Awaitable[object]], caplog: pytest.LogCaptureFixture
) -> None:
    await damaged.open(Recorder())
    for _ in range(3):
        with pytest.raises(LogDamaged):
            await read(damaged)
    [line] = [record.getMessage() for record in caplog.records if "is damaged" in record.getMessage()]
    assert "malformed" in line
    await damaged.close()


async def test_damage_in_one_channel_costs_no_other_its_posts(damaged: SqlMessageLog) -> None:
    await damaged.open(Recorder())
    drafts = [Draft(channel_id, "ada", "x") for channel_id in ("general", "a", "general", "a")]
    outcomes = await asyncio.gather(*map(damaged.append, drafts), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [LogDamaged, Appended, LogDamaged, Appended]
    await damaged.close()
