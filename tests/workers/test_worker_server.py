"""`server.py --workers`: real processes, real sockets, and `kill -9` for each of them."""

import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from messages import encode_cursor
from tests.chaos.checker import check
from tests.chaos.history import Ended, History, Stored
from tests.chaos.people import Book, Publisher, listener, named
from tests.cluster.chat_client import ChatClient
from tests.cluster.subscriber import Subscriber, subscribed
from tests.engine.client import Client
from tests.server_process import REPOSITORY, ServerProcess
from tests.workers.worker_server import WorkerServer, comm, until

CHANNELS = ["red", "green"]

pytestmark = pytest.mark.timeout(120)


def item(content: str = "x", **more: object) -> dict[str, object]:
    return {"channel_id": "general", "author": "ada", "content": content, **more}


def stored(path: Path) -> list[Stored]:
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT channel_id, sequence, content FROM messages ORDER BY 1, 2").fetchall()
        return [Stored(channel_id, sequence, named(text)) for channel_id, sequence, text in rows]


def places() -> set[Path]:
    """The directories in which servers of this user have their sockets."""
    return set(Path(tempfile.gettempdir()).glob(f"raqcoon-{os.geteuid()}-*"))


def epoch(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        return str(connection.execute("SELECT epoch FROM log_info").fetchone()[0])


async def test_what_is_posted_at_one_worker_is_heard_at_all_and_the_start_is_told_once(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=3) as server:
        assert set(server.children()) == {"owner", "w1", "w2", "w3"}
        clients = await server.at_each()
        subscribers = [Subscriber(str(n), "general", [server.socket_url]) for n in range(24)]
        async with subscribed(*subscribers):
            for n in range(30):
                (await clients[n % 3].post("/api/messages", json=item(str(n)))).raise_for_status()
            for subscriber in subscribers:
                await subscriber.until(30)
                assert subscriber.record == [(n + 1, str(n)) for n in range(30)]
                assert subscriber.closes == []
        lines = server.log()
        assert lines.count("RAQCOON listens on") == 1
        assert re.search(r"^  workers     3$", lines, re.M)
        assert lines.count("RAQCOON_AUTH") == 1
        seen = await server.metrics()
        assert (seen["raqcoon_workers"], seen["raqcoon_messages_posted_total"]) == (3, 30)
        assert seen["raqcoon_messages_delivered_total"] == 24 * 30
        for client in clients:
            await client.aclose()


async def test_every_process_is_killed_under_load_and_every_message_accounted_for(tmp_path: Path) -> None:
    path = tmp_path / "raqcoon.db"
    async with WorkerServer(tmp_path, workers=2) as server:
        book = Book()
        name = epoch(path)
        subscribers = [
            listener(f"{c}{n}", book, c, [server.socket_url], sequence=0, cursor=encode_cursor(name, c, 0))
            for c in CHANNELS
            for n in range(4)
        ]
        async with ChatClient(server.url) as client, subscribed(*subscribers):
            people = [Publisher(f"p{n}", book, {"a": client}, CHANNELS, random.Random(n)) for n in range(6)]
            stop = asyncio.Event()
            posting = [asyncio.create_task(person.run(stop, 0.005)) for person in people]
            for victim in ("owner", "w1", "owner", "w2"):
                told = sum(person.acknowledged for person in people)
                await until(lambda told=told: sum(person.acknowledged for person in people) >= told + 60)  # type: ignore[misc]
                closed = {subscriber.name: len(subscriber.closes) for subscriber in subscribers}
                await server.again(victim, server.signal(victim, signal.SIGKILL))
                if victim == "owner":  # it costs nobody a connection
                    assert closed == {subscriber.name: len(subscriber.closes) for subscriber in subscribers}
            stop.set()
            await asyncio.gather(*posting)
            log = stored(path)
            heads = {entry.channel_id: entry.sequence for entry in log}
            async with asyncio.timeout(30):
                for subscriber in subscribers:
                    await subscriber.until(heads[subscriber.channel_id])
            for subscriber in subscribers:
                book.add(lambda at, who=subscriber: Ended(at, who.channel_id, who.name))  # type: ignore[misc]
        assert check(History(book.events, log)) == []
        assert [problem for person in people for problem in person.problems] == []
        assert {code for subscriber in subscribers for code in subscriber.closes} <= {None}  # 1006, for the killed ones
        assert await server.stop() == 0


async def test_supervisor_killed_takes_all_with_it_and_a_new_one_finds_everything(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=2) as server:
        (await server.http.post("/api/messages", json=item())).raise_for_status()
        children = list(server.children().values())
        await server.kill()
        await until(lambda: not any(map(comm, children)), 5)
        await server.start()
        answer = (await server.http.get("/api/messages", params={"channel_id": "general"})).raise_for_status()
        assert [message["sequence"] for message in answer.json()["messages"]] == [1]


async def test_owner_away_posts_are_told_when_to_come_again_and_readiness_says_so(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=2) as server:
        (first, second) = await server.at_each()
        assert [(await client.get("/readyz")).status_code for client in (first, second)] == [200, 200]
        pid = server.signal("owner", signal.SIGSTOP)
        answers = await asyncio.gather(*(client.get("/readyz") for client in (first, second)))
        assert [answer.status_code for answer in answers] == [503, 503]
        os.kill(pid, signal.SIGKILL)
        os.kill(pid, signal.SIGCONT)

        async def post() -> httpx.Response:
            return await first.post("/api/messages", json=item("once", idempotency_key="k"))

        async with asyncio.timeout(20):
            while (answer := await post()).status_code != 200:
                assert (answer.status_code, answer.json()["code"]) == (503, "UNAVAILABLE")
                assert int(answer.headers["retry-after"]) >= 1
                await asyncio.sleep(0.02)
            assert (await post()).json() == answer.json()
            while (await second.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
        for client in (first, second):
            await client.aclose()


async def test_sigterm_drains_all_workers_and_leaves_nothing(tmp_path: Path) -> None:
    before = places()
    async with WorkerServer(tmp_path, workers=2) as server:
        (directory,) = places() - before
        assert directory.stat().st_mode & 0o777 == 0o700
        sockets = [path for path in directory.iterdir() if path.is_socket()]
        assert sockets
        assert {path.stat().st_mode & 0o777 for path in sockets} == {0o600}
        children = list(server.children().values())
        clients = [await Client.open(server.port) for _ in range(12)]
        server.terminate()
        for client in clients:
            with pytest.raises(ConnectionError):
                await client.next_frame()
            assert client.closed == 1012
            client.sock.close()
        assert await server.gone() == 0
        assert not any(map(comm, children))
        assert not directory.exists()
        assert "Traceback" not in server.log()


async def test_sigint_from_a_terminal_reaches_all_and_drains_once(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=2, drain_seconds=5) as server:
        async with await Client.open(server.port) as client:
            for pid in (server.pid, *server.children().values()):
                os.kill(pid, signal.SIGINT)
            with pytest.raises(ConnectionError):
                await client.next_frame()
            assert client.closed == 1012
        assert await server.gone() == 0


async def test_limits_hold_for_all_workers_together(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=2, max_connections=20, posts_per_second=0.01) as server:
        await server.http.aclose()
        clients = []
        for _ in range(20):
            clients.append(server.client())
            assert (await clients[-1].get("/healthz")).status_code == 200
        async with httpx.AsyncClient(base_url=server.url) as one_more:
            assert (await one_more.get("/api/channels")).status_code == 503
        assert len({await server.worker_of(client) for client in clients}) == 2
        answers = [await client.post("/api/messages", json=item()) for client in clients]
        assert [answer.status_code for answer in answers] == [200] + [429] * 19
        # What a killed worker had is free again.
        await clients.pop().aclose()
        pid = server.signal("w1", signal.SIGKILL)
        await server.again("w1", pid)
        for client in clients:
            await client.aclose()
        async with httpx.AsyncClient(base_url=server.url) as client:
            assert (await client.get("/api/channels")).status_code == 200


async def test_limit_of_an_address_holds_for_all_workers_together(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=2, max_connections_per_address=5, trusted_proxies="127.0.0.1") as server:
        here = ("X-Forwarded-For: 192.0.2.7",)
        sockets = [await Client.open(server.port, headers=here) for _ in range(5)]
        for _ in range(4):
            with pytest.raises(ConnectionError, match=" 429 "):
                await Client.open(server.port, headers=here)
        sockets.append(await Client.open(server.port, headers=("X-Forwarded-For: 192.0.2.8",)))
        for client in sockets:
            client.sock.close()


async def test_metrics_never_go_back_and_name_who_does_not_answer(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=2) as server:
        clients = await server.at_each()
        subscriber = Subscriber("s", "general", [server.socket_url])
        async with subscribed(subscriber):
            for n in range(20):
                (await clients[n % 2].post("/api/messages", json=item(str(n)))).raise_for_status()
            await subscriber.until(20)
            before = await server.until(lambda seen: not any(n.startswith("raqcoon_workers_missing") for n in seen))
            assert before["raqcoon_connections{graphql-ws}"] == 1
            assert before["raqcoon_messages_delivered_total"] == 20
            for victim in ("w1", "w2"):
                await server.again(victim, server.signal(victim, signal.SIGKILL))
            await subscriber.connected.wait()
            after = await server.until(lambda seen: seen["raqcoon_connections{graphql-ws}"] == 1)
            growing = {name for name in before if name.endswith(("_total", "_count", "_sum"))}
            assert {name for name in growing if after[name] < before[name]} == set()
        for client in clients:
            await client.aclose()
        (first, second) = await server.at_each()
        stopped = server.signal("w2", signal.SIGSTOP)
        try:
            # One of the two connections is at the worker that is stopped.
            asked = [asyncio.create_task(client.get("/metrics")) for client in (first, second)]
            (answer, *_), waiting = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            text = answer.result().text
            assert 'raqcoon_workers_missing{worker="2"} 1.0' in text
            assert "raqcoon_messages_posted_total 20.0" in text
        finally:
            os.kill(stopped, signal.SIGCONT)
            await asyncio.gather(*waiting)
            for client in (first, second):
                await client.aclose()


async def test_log_lines_name_the_process(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=2, log_format="json") as server:
        opened = 0
        workers: set[int] = set()
        # The kernel deals connections out by chance.
        while workers != {1, 2}:
            assert opened < 200
            for _ in range(12):
                (await Client.open(server.port)).sock.close()
            opened += 12
            await until(lambda: server.log().count("connection ended") == opened)  # noqa: B023
            lines = [json.loads(line) for line in server.log().splitlines()]
            workers = {line["worker"] for line in lines if line["message"] == "connection ended"}
        (listening,) = [line for line in lines if line["message"] == "listening"]
        assert (listening["workers"], "worker" in listening) == (2, False)


async def test_second_server_on_the_port_or_the_file_is_refused_with_one_line(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=2) as server:
        for changed in ({"port": server.port, "database_url": f"sqlite:///{tmp_path}/other.db"}, {}):
            other = ServerProcess(tmp_path, "other", workers=2, **changed)
            await other.launch()
            assert await other.gone() == 2
        assert len(re.findall(r"^raqcoon: cannot listen on", other.log(), re.M)) == 1
        assert len(re.findall(r"^raqcoon: another running server holds", other.log(), re.M)) == 1
        assert len(other.log().splitlines()) == 2


async def test_workers_on_postgresql_are_nodes(tmp_path: Path, postgres_url: str) -> None:
    async with WorkerServer(tmp_path, workers=2, database_url=postgres_url) as server:
        assert set(server.children()) == {"w1", "w2"}
        clients = await server.at_each()
        subscribers = [Subscriber(str(n), "general", [server.socket_url]) for n in range(12)]
        async with subscribed(*subscribers):
            for n in range(10):
                (await clients[n % 2].post("/api/messages", json=item(str(n)))).raise_for_status()
            for subscriber in subscribers:
                await subscriber.until(10)
                assert subscriber.record == [(n + 1, str(n)) for n in range(10)]
            assert (await server.metrics())["raqcoon_messages_posted_total"] == 10
        for client in clients:
            await client.aclose()


async def test_one_worker_is_one_process(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=1) as server:
        assert server.children() == {}
        assert "workers" not in server.log()
        assert (await server.metrics())["raqcoon_workers"] == 1


async def test_auto_is_the_cores_that_the_process_may_use(tmp_path: Path) -> None:
    server = WorkerServer(tmp_path, workers="auto", command=("-c", PINNED, str(REPOSITORY / "server.py")))  # type: ignore[arg-type]
    async with server:
        assert server.children() == {}


PINNED = """
import os, runpy, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
