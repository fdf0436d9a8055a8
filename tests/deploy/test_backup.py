"""Backup and restore as docs/deploying.md tells it: restored, resumed, and a new epoch where old cursors would lie."""

import asyncio
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import psycopg

from tests.server_process import REPOSITORY, ServerProcess, running

HEAD = """query ($after: Cursor) {
  channel(id: "general") { headCursor messages(after: $after) { edges { node { content } } } }
}"""


async def post(server: ServerProcess, *contents: str) -> None:
    async with httpx.AsyncClient(base_url=server.url) as client:
        for content in contents:
            body = {"channel_id": "general", "author": "ann", "content": content}
            (await client.post("/api/messages", json=body)).raise_for_status()


async def look(server: ServerProcess, after: str | None = None) -> tuple[str | None, list[str], str | None]:
    """The head's cursor, what follows `after`, and the code of an error."""
    async with httpx.AsyncClient(base_url=server.url) as client:
        answer = (await client.post("/graphql", json={"query": HEAD, "variables": {"after": after}})).json()
    if "errors" in answer:
        return None, [], answer["errors"][0]["extensions"]["code"]
    channel = answer["data"]["channel"]
    return channel["headCursor"], [edge["node"]["content"] for edge in channel["messages"]["edges"]], None


def put_back(backup: Path, file: Path) -> None:
    for part in ("", "-wal", "-shm"):
        Path(f"{file}{part}").unlink(missing_ok=True)
    shutil.copy(backup, file)


async def new_epoch(url: str) -> str:
    command = [sys.executable, "server.py", "new-epoch", url]
    done = await asyncio.to_thread(subprocess.run, command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_sqlite_backup_by_vacuum_into_restored_with_a_new_epoch_lies_to_no_cursor(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    file, backup = tmp_path / "raqcoon.db", tmp_path / "backup.db"
    async with running(server):
        await post(server, "one", "two")
        # Beside the running server, as the docs say.
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("VACUUM INTO ?", (str(backup),))
        await post(server, "three, which the backup does not have")
        seen, _, _ = await look(server)
    put_back(backup, file)
    assert "new epoch" in await new_epoch(f"sqlite:///{file}")
    async with running(server):
        await post(server, "another third")
        # Without the new epoch this cursor of the old third message would be taken for the new one's, which is lost.
        assert await look(server, seen) == (None, [], "CURSOR_INVALID")
        assert (await look(server))[1] == ["one", "two", "another third"]


async def test_sqlite_backup_of_the_newest_state_keeps_cursors_valid(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    file, backup = tmp_path / "raqcoon.db", tmp_path / "backup.db"
    async with running(server):
        await post(server, "one")
        seen, _, _ = await look(server)
        await post(server, "two")
        await server.stop()
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("VACUUM INTO ?", (str(backup),))
        put_back(backup, file)
        await server.start()
        assert (await look(server, seen))[1] == ["two"]


def restored_messages(litestream: str, replica: Path, target: Path) -> int:
    """Restores the replica into a new file and counts its messages; 0 while there is nothing to restore."""
    for part in ("", "-wal", "-shm"):
        Path(f"{target}{part}").unlink(missing_ok=True)
    command = [litestream, "restore", "-o", str(target), f"file://{replica}"]
    if subprocess.run(command, capture_output=True).returncode:
        return 0
    with closing(sqlite3.connect(target)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM messages").fetchone()
    return int(count)


async def test_sqlite_replicated_by_litestream_is_restored_whole(tmp_path: Path) -> None:
    litestream = str(Path(sys.executable).with_name("litestream"))
    server = ServerProcess(tmp_path)
    file, replica, restored = tmp_path / "raqcoon.db", tmp_path / "replica", tmp_path / "restored.db"
    contents = [f"message {number}" for number in range(40)]
    async with running(server):
        replicate = await asyncio.create_subprocess_exec(litestream, "replicate", str(file), f"file://{replica}")
        try:
            await post(server, *contents)
            async with asyncio.timeout(30):
                # It copies once a second, beside the running server; what it has by then can be restored.
                while await asyncio.to_thread(restored_messages, litestream, replica, restored) < len(contents):
                    await asyncio.sleep(0.3)
        finally:
            replicate.terminate()
            await replicate.wait()
    other = ServerProcess(tmp_path, "restored", database_url=f"sqlite:///{restored}")
    async with running(other):
        assert (await look(other))[1] == contents


async def test_postgresql_epoch_is_changed_by_the_same_command(postgres_url: str, tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, database_url=postgres_url)
    async with running(server):
        await post(server, "one")
    with psycopg.connect(postgres_url) as connection:
        before = connection.execute("SELECT epoch FROM log_info").fetchone()
        await new_epoch(postgres_url)
        assert connection.execute("SELECT epoch FROM log_info").fetchone() != before


async def test_new_epoch_of_a_file_in_use_or_of_none_is_refused(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    async with running(server):
        for url, problem in (
            (f"sqlite:///{tmp_path}/raqcoon.db", "running"),
            (f"sqlite:///{tmp_path}/nothing.db", "there is no SQLite file"),
        ):
            command = [sys.executable, "server.py", "new-epoch", url]
            done = await asyncio.to_thread(subprocess.run, command, cwd=REPOSITORY, capture_output=True, text=True)
            assert done.returncode == 2
            assert problem in done.stderr
    assert not (tmp_path / "nothing.db").exists()
