"""Comments in a stream of server-sent events are nothing to the clients that people use, however many come."""

import asyncio
import json
from pathlib import Path

import pytest

from schema.operations import Operations
from tests import node
from tests.clients.workspace import HERE
from tests.fakes import fill, memory_chat
from tests.transports.live_server import serve, until
from transports.gate.origins import Origins
from transports.graphql.http import GraphQLHTTP

PROGRAM = HERE / "heartbeats.mjs"
CLIENTS = ("graphql-sse", "urql", "eventsource", "fetch-event-source")
MESSAGES = 5
HEARTBEAT_SECONDS = 0.01


@pytest.fixture(scope="module")
def packages() -> Path:
    node.install(HERE)
    return HERE


async def test_heartbeats_between_messages_are_no_events_to_any_client(packages: Path) -> None:
    async with memory_chat() as chat:
        endpoint = GraphQLHTTP(chat, Operations(), origins=Origins("127.0.0.1"), heartbeat_seconds=HEARTBEAT_SECONDS)
        async with serve(endpoint) as port:
            program = await asyncio.create_subprocess_exec(
                "node",
                str(PROGRAM),
                f"http://127.0.0.1:{port}/graphql",
                str(MESSAGES),
                env=node.environment(),
                stdout=asyncio.subprocess.PIPE,
            )
            assert program.stdout is not None
            await until(lambda: chat.hub.subscribers == len(CLIENTS))
            for _ in range(MESSAGES):
                await asyncio.sleep(10 * HEARTBEAT_SECONDS)
                await fill(chat, "general", 1)
            printed = (await program.stdout.read()).decode()
            assert await program.wait() == 0
            await until(lambda: chat.hub.channels == {})
    told = [json.loads(line) for line in printed.splitlines()]
    for client in CLIENTS:
        assert [each for each in told if each["client"] == client] == [{"client": client, "content": "1"}] * MESSAGES
