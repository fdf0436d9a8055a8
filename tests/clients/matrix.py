"""All clients at the same time against one server: what they ask, what they follow, and which faults they survive."""

import asyncio
import shutil
import signal
import uuid
from pathlib import Path
from typing import Any

from tests.clients.client_process import CLIENTS, ClientProcess
from tests.clients.tokens import SECRET, TokenServer, make_token
from tests.clients.workspace import HERE, make_workspace
from tests.engine.client import Client
from tests.engine.engine_server import EngineServer

PAST = 250
"""Messages that were posted before: three pages of history."""
LIVE = 1_000
SLOW = 600
SLOW_BYTES = 8_000
SLOW_TIMEOUT_SECONDS = 1.0
SOCKET_CLIENTS = {"apollo-websocket", "urql-websocket", "gql", "websocket"}
"""Clients that the server cuts when they do not read. Streams are cut only after a minute."""
TOKEN_SECONDS = 1
TOKENS = 3
"""How many tokens each client uses up while it follows."""
GUARDED_BATCH = 40
BATCH = 20
"""Posts under way at the same time."""


class Matrix:
    """One run. Afterwards `clients` have what they received, and `log` has what they should have received, by
    channel."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.clients: dict[str, ClientProcess] = {}
        self.log: dict[str, list[tuple[int, str]]] = {}
        self.posted: dict[str, int] = {}
        """How often the mutation cell of each client is in the log."""

    async def run(self) -> None:
        workspace = await asyncio.to_thread(make_workspace, self._directory / "node")
        for name in ("client.mjs", "adapters.mjs"):
            shutil.copy(HERE / name, workspace)
        for name in ("open", "guarded"):
            (self._directory / name).mkdir()
        async with (
            EngineServer(self._directory / "open", slow_subscriber_timeout_seconds=SLOW_TIMEOUT_SECONDS) as server,
            EngineServer(self._directory / "guarded", auth="jwt", jwt_secret=SECRET) as guarded,
            TokenServer(TOKEN_SECONDS) as tokens,
        ):
            guarded.http.headers["authorization"] = f"Bearer {make_token('ann', 3600)}"
            await server.post_many(PAST, channel="past", content=lambda number: f"past {number}")
            await self._start_clients(server, guarded, tokens, workspace)
            try:
                await asyncio.gather(*(client.until_cells(3) for client in self.clients.values()))
                await self._live(server)
                await self._restart(server)
                await self._slow(server)
                await self._tokens(guarded, tokens)
            finally:
                await asyncio.gather(*(client.end() for client in self.clients.values()))
            for name in CLIENTS:
                self.posted[name] = len(await self._stored(server, f"own-{name}"))

    async def _start_clients(
        self, server: EngineServer, guarded: EngineServer, tokens: TokenServer, workspace: Path
    ) -> None:
        heads = [(server, channel, await head(server, channel)) for channel in ("live", "restart", "slow")]
        heads.append((guarded, "guarded", await head(guarded, "guarded")))

        def work(name: str) -> dict[str, Any]:
            return {
                "url": f"{server.url}/graphql",
                "past": "past",
                "own": f"own-{name}",
                "key": str(uuid.uuid4()),
                "follow": [
                    {
                        "url": f"{where.url}/graphql",
                        "channel": channel,
                        "after": cursor,
                        "tokens": f"{tokens.url}/{name}" if where is guarded else None,
                    }
                    for where, channel, cursor in heads
                ],
            }

        started = await asyncio.gather(*(ClientProcess.start(name, work(name), workspace) for name in CLIENTS))
        self.clients = {client.name: client for client in started}

    async def _live(self, server: EngineServer) -> None:
        """All clients are connected, and messages come as fast as one socket can post them."""
        await server.until(lambda seen: seen["raqcoon_subscribers"] == 3 * len(CLIENTS))
        await server.post_many(LIVE, channel="live", content=lambda number: f"live {number}")
        await self._received(server, "live", LIVE)

    async def _restart(self, server: EngineServer) -> None:
        """Kills the server (kill -9) while messages come. Posts are repeated until they are answered."""
        halfway = asyncio.Event()

        async def post() -> None:
            for start in range(1, LIVE + 1, BATCH):
                if start > LIVE * 6 // 10:
                    await halfway.wait()
                numbers = range(start, min(start + BATCH, LIVE + 1))
                await post_through(server, "restart", [f"restart {number}" for number in numbers])

        posting = asyncio.create_task(post())
        await asyncio.gather(*(client.until_received("restart", LIVE // 5) for client in self.clients.values()))
        halfway.set()
        await self.clients["websocket"].until_received("restart", LIVE * 6 // 10)
        await server.kill()
        await server.start()
        await posting
        await self._received(server, "restart", LIVE)

    async def _slow(self, server: EngineServer) -> None:
        """All clients hang, more messages come than their sockets can hold, and then the clients continue."""
        await server.until(lambda seen: seen["raqcoon_subscribers"] == 3 * len(CLIENTS))
        for client in self.clients.values():
            client.signal(signal.SIGSTOP)
        await server.post_many(SLOW, channel="slow", content=lambda number: f"slow {number} ".ljust(SLOW_BYTES, "x"))
        await server.until(lambda seen: seen["raqcoon_connections_cut_total{slow}"] >= len(SOCKET_CLIENTS))
        for client in self.clients.values():
            client.signal(signal.SIGCONT)
        await self._received(server, "slow", SLOW)

    async def _tokens(self, guarded: EngineServer, tokens: TokenServer) -> None:
        """Posts continue until each client has used up its tokens."""
        for number in range(TOKENS):
            await tokens.until_each_asked_again(CLIENTS)
            content = f"guarded {number}"
            await asyncio.gather(*(guarded.post(content, channel="guarded") for _ in range(GUARDED_BATCH)))
        await self._received(guarded, "guarded", TOKENS * GUARDED_BATCH)

    async def _received(self, server: EngineServer, channel: str, count: int) -> None:
        await asyncio.gather(*(client.until_received(channel, count) for client in self.clients.values()))
        self.log[channel] = await self._stored(server, channel)

    @staticmethod
    async def _stored(server: EngineServer, channel: str) -> list[tuple[int, str]]:
        answer = await server.http.get("/api/messages", params={"channel_id": channel, "limit": 1000})
        return [(item["sequence"], item["content"][:20]) for item in answer.raise_for_status().json()["messages"]]


async def head(server: EngineServer, channel: str) -> str:
    """The newest sequence of a channel now."""
    query = "query ($id: ID!) { channel(id: $id) { headCursor } }"
    answer = await server.http.post("/graphql", json={"query": query, "variables": {"id": channel}})
    return str(answer.raise_for_status().json()["data"]["channel"]["headCursor"])


MUTATION = """mutation ($channel: ID!, $content: String!) {
  postMessage(channelId: $channel, author: "ann", content: $content, idempotencyKey: $content) { sequence }
}"""


async def post_through(server: EngineServer, channel: str, contents: list[str]) -> None:
    """Posts all of them at the same time, begun in order. Each is repeated until it is answered; its key makes it one
    message."""
    while True:
        try:
            async with await Client.open(server.port) as client:
                await client.send(
                    *(client.operation(content, MUTATION, channel=channel, content=content) for content in contents)
                )
                answered = 0
                while answered < len(contents):
                    frame = await client.next_frame()
                    assert "errors" not in frame.get("payload", {}), frame
                    answered += frame["type"] == "complete"
                return
        except OSError:
            await asyncio.sleep(0.02)
