"""Several real server processes on one PostgreSQL behave as one."""

import asyncio
import sqlite3
import sys
from contextlib import AsyncExitStack, closing
from pathlib import Path

import psycopg
import pytest

from messages import encode_cursor
from tests.cluster.chat_client import ChatClient, Failed
from tests.cluster.subscriber import Subscriber, subscribed
from tests.server_process import REPOSITORY, ServerProcess, running

pytestmark = pytest.mark.timeout(120)

NODE_PROGRAM = str(REPOSITORY / "tests" / "chaos" / "node_program.py")


async def test_nodes_started_together_migrate_once_and_deliver_as_one(
    database: dict[str, object], postgres_url: str, tmp_path: Path
) -> None:
    nodes = [ServerProcess(tmp_path, name, **database) for name in "abc"]
    async with running(*nodes), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(ChatClient(node.url)) for node in nodes]
        start = {await client.head_cursor("general") for client in clients}
        assert len(start) == 1, "one epoch"
        with psycopg.connect(postgres_url) as connection:
            assert connection.execute("SELECT count(*) FROM log_info").fetchone() == (1,)
        (cursor,) = start
        subscribers = [Subscriber(node.name, "general", [node.socket_url], after=cursor) for node in nodes]
        await stack.enter_async_context(subscribed(*subscribers))

        async def publish(client: ChatClient, author: str) -> list[int]:
            return [await client.post("general", f"{author} {i}", author=author) for i in range(60)]

        acknowledged = await asyncio.gather(
            *(publish(client, f"author {i}{j}") for i, client in enumerate(clients) for j in range(2))
        )
        assert sorted(sequence for each in acknowledged for sequence in each) == list(range(1, 361))
        async with asyncio.timeout(20):
            for subscriber in subscribers:
                await subscriber.until(360)
        log = await clients[0].history("general")
        assert [sequence for sequence, _ in log] == list(range(1, 361))
        assert [subscriber.record for subscriber in subscribers] == [log] * 3
        for each in acknowledged:
            assert each == sorted(each), "a publisher that waits for its answers is in order"


async def test_client_that_moves_to_another_node_resumes_with_its_cursor(
    database: dict[str, object], tmp_path: Path
) -> None:
    first, second = nodes = [ServerProcess(tmp_path, name, **database) for name in "ab"]
    async with running(*nodes), ChatClient(first.url) as here, ChatClient(second.url) as there:
        mover = Subscriber("mover", "general", [first.socket_url], after=await here.head_cursor("general"))
        async with subscribed(mover):
            for i in range(10):
                await (here, there)[i % 2].post("general", str(i))
            await mover.until(10)
            mover.nodes = [second.socket_url]
            mover.drop()
            for i in range(10, 40):
                await (here, there)[i % 2].post("general", str(i))
            async with asyncio.timeout(10):
                await mover.until(40)
        assert mover.contents == [str(i) for i in range(40)]
        assert mover.connections == 2


@pytest.mark.parametrize("lost", ["hints", "the listening connections"])
@pytest.mark.alone
async def test_lost_hints_are_repaired_by_the_sweep(
    database: dict[str, object], postgres_url: str, tmp_path: Path, lost: str
) -> None:
    bugs = {"CHAOS_BUGS": "hints_lost"} if lost == "hints" else {}
    first, second = nodes = [
        ServerProcess(tmp_path, name, command=(NODE_PROGRAM,), environment=bugs, **database) for name in "ab"
    ]
    async with running(*nodes), ChatClient(first.url) as here:
        subscriber = Subscriber("b", "general", [second.socket_url], after=await here.head_cursor("general"))
        async with subscribed(subscriber):
            await here.post("general", "1")
            async with asyncio.timeout(10):
                await subscriber.until(1)
            if lost != "hints":
                async with await psycopg.AsyncConnection.connect(postgres_url, autocommit=True) as admin:
                    await admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
                    )
            began = asyncio.get_running_loop().time()
            await here.post("general", "2")
            async with asyncio.timeout(10):
                await subscriber.until(2)
            assert asyncio.get_running_loop().time() - began < 3
        assert subscriber.contents == ["1", "2"]


@pytest.mark.parametrize(
    "policy",
    [{"retention_max_messages": 5}, {"retention_max_age_seconds": 3600}],
    ids=["count", "age"],
)
async def test_retention_tells_clients_that_come_too_late(log_url: str, tmp_path: Path, policy: dict[str, int]) -> None:
    clock = tmp_path / "clock"
    moved = {"CHAOS_CLOCK": str(clock)}
    node = ServerProcess(tmp_path, command=(NODE_PROGRAM,), environment=moved, database_url=log_url, **policy)
    async with running(node), ChatClient(node.url) as client:
        cursor = await client.head_cursor("general")
        clock.write_text("-86400")  # yesterday
        for i in range(1, 16):
            await client.post("general", str(i))
        clock.write_text("0")
        for i in range(16, 21):
            await client.post("general", str(i))
        await node.restart()  # the first round comes with the start
        async with asyncio.timeout(20):
            while (await client.history("general"))[:1] != [(16, "16")]:
                await asyncio.sleep(0.05)
        late = Subscriber("late", "general", [node.socket_url], after=cursor)
        async with subscribed(late), asyncio.timeout(10):
            while not late.errors:
                await asyncio.sleep(0.02)
        extensions = late.errors[0]["extensions"]
        assert (extensions["code"], late.record) == ("CURSOR_EXPIRED", [])
        later = Subscriber("later", "general", [node.socket_url], after=extensions["resumeCursor"])
        async with subscribed(later), asyncio.timeout(10):
            await later.until(20)
        assert later.sequences == [16, 17, 18, 19, 20]


async def test_cursors_that_fit_no_log_are_refused(database: dict[str, object], tmp_path: Path) -> None:
    node = ServerProcess(tmp_path, **database)
    async with running(node), ChatClient(node.url) as client:
        other = await client.head_cursor("other")
        for cursor in ("nonsense", other, encode_cursor("another epoch", "general", 0)):
            with pytest.raises(Failed) as refused:
                await client.ask(
                    'query Q($c: Cursor) { channel(id: "general") { messages(after: $c) { edges { cursor } } } }',
                    c=cursor,
                )
            assert refused.value.extensions["code"] == "CURSOR_INVALID"
            subscriber = Subscriber("s", "general", [node.socket_url], after=cursor)
            async with subscribed(subscriber), asyncio.timeout(10):
                while not subscriber.errors:
                    await asyncio.sleep(0.02)
            assert subscriber.errors[0]["extensions"]["code"] == "CURSOR_INVALID"


async def test_copied_log_keeps_cursors_and_keys_of_clients(database: dict[str, object], tmp_path: Path) -> None:
    source = f"sqlite:///{tmp_path}/source.db"
    old = ServerProcess(tmp_path, "old", database_url=source)
    new = ServerProcess(tmp_path, "new", **database)
    async with running(old), ChatClient(old.url) as client:
        for i in range(1, 31):
            await client.post("general", str(i), key=f"key {i}")
        mover = Subscriber("mover", "general", [old.socket_url], after=None)
        async with subscribed(mover):
            await client.post("general", "31")
            await mover.until(31)
        assert await old.stop() == 0
    copying = await asyncio.create_subprocess_exec(
        sys.executable,
        str(REPOSITORY / "server.py"),
        "copy",
        source,
        str(database["database_url"]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, progress = await copying.communicate()
    assert (copying.returncode, output) == (0, b"copied 31 messages\n")
    assert b"31.0/31.0" in progress
    async with running(new), ChatClient(new.url) as client:
        assert await client.post("general", "7", key="key 7") == 7
        mover.nodes = [new.socket_url]
        async with subscribed(mover):
            assert await client.post("general", "32") == 32
            await mover.until(32)
        assert mover.record == [(31, "31"), (32, "32")]


async def test_earlier_servers_file_is_copied_and_served(database: dict[str, object], tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "earlier.db")) as earlier, earlier:
        earlier.execute(
            "CREATE TABLE messages (id INTEGER PRIMARY KEY, channel_id TEXT, author TEXT, content TEXT, "
            "timestamp TEXT, lane TEXT, provider TEXT, token_count INTEGER)"
        )
        earlier.executemany(
            "INSERT INTO messages (channel_id, author, content, timestamp) VALUES (?, 'ada', ?, '2025-01-01T00:00:00')",
            [("general" if i % 2 else "other", str(i)) for i in range(10)],
        )
    earlier.close()
    copying = await asyncio.create_subprocess_exec(
        sys.executable,
        str(REPOSITORY / "server.py"),
        "copy",
        f"sqlite:///{tmp_path}/earlier.db",
        str(database["database_url"]),
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert await copying.wait() == 0
    node = ServerProcess(tmp_path, **database)
    async with running(node), ChatClient(node.url) as client:
        assert await client.history("general") == [(1, "1"), (2, "3"), (3, "5"), (4, "7"), (5, "9")]
        assert await client.post("other", "next") == 6
