"""Clients that come back: a hanging tab's graphql-ws, and a storm of them all at once."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import node
from tests.engine.client import Client
from tests.engine.engine_server import EngineServer
from tests.node import REPOSITORY

StartServer = Callable[..., Any]
MESSAGES = 1_500
STORM = 100
STORM_MESSAGES = 1_000
PLAYGROUND = REPOSITORY / "playground"


@pytest.mark.timeout(180)
async def test_graphql_ws_client_that_hangs_is_cut_resumes_and_misses_nothing(
    start_server: StartServer, tmp_path: Path
) -> None:
    wake_up = tmp_path / "wake-up"
    await asyncio.to_thread(node.install, PLAYGROUND)
    server: EngineServer = await start_server(slow_subscriber_timeout_seconds=0.8)
    tab = await asyncio.create_subprocess_exec(
        "node",
        str(REPOSITORY / "tests" / "engine" / "slow_tab.mjs"),
        str(PLAYGROUND),
        f"ws://127.0.0.1:{server.port}/graphql",
        str(MESSAGES + 1),
        str(wake_up),
        stdout=asyncio.subprocess.PIPE,
        env=node.environment(),
    )
    assert tab.stdout is not None
    await server.until(lambda seen: seen["raqcoon_subscribers"] == 1)
    await server.post("first")
    while await tab.stdout.readline() != b"hanging\n":
        assert tab.returncode is None
    await server.post_many(MESSAGES, content=lambda number: f"{number} " + "x" * 4_000)
    await server.until(lambda seen: seen["raqcoon_connections_cut_total{slow}"] == 1)
    wake_up.touch()
    output = await tab.stdout.read()
    report = json.loads(output.splitlines()[-1])
    assert await tab.wait() == 0, report
    assert report["received"] == list(range(1, MESSAGES + 2))
    assert report["closes"] == [1006]
    await server.until_empty()


async def test_storm_of_resuming_clients_shares_reads_and_executions_and_stays_live(start_server: StartServer) -> None:
    server: EngineServer = await start_server()
    # The log has it, this process's memory has not: reads are counted from a cold start.
    await server.post_many(STORM_MESSAGES, content=lambda number: f"{number} " + "x" * 200)
    await server.kill()
    await server.start()
    page = (await server.http.get("/api/messages", params={"channel_id": "general", "limit": 1000})).json()["messages"]
    cursors = [item["cursor"] for item in page]
    clients = [await Client.open(server.port) for _ in range(STORM)]
    starts = [number * (STORM_MESSAGES - 1) // STORM + 1 for number in range(STORM)]
    assert await asyncio.gather(
        *(resume(client, cursors[start - 1]) for client, start in zip(clients, starts, strict=True))
    )
    last = STORM_MESSAGES + 20
    readers = [
        asyncio.create_task(client.read_run(start + 1, last)) for client, start in zip(clients, starts, strict=True)
    ]
    for number in range(20):
        await server.post(f"during the storm {number}")
    await asyncio.gather(*readers)
    seen = await server.metrics()
    pages = -(-STORM_MESSAGES // 256)
    assert seen["raqcoon_log_reads_total"] <= 4 * pages
    assert seen["raqcoon_cohorts"] == 1
    for client in clients:
        client.sock.close()
    await server.until_empty()


async def resume(client: Client, cursor: str) -> bool:
    await client.subscribe(after=cursor)
    return True
