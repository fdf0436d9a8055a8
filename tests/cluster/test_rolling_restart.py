"""Three nodes are restarted one after the other under load; graphql-ws clients, as npm has them, never notice."""

import asyncio
import json
import random
import shutil
from collections import defaultdict
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import node as javascript
from tests.cluster.chat_client import ChatClient, Failed
from tests.server_process import ServerProcess, running

HERE = Path(__file__).parent / "rolling"
CLIENTS = 6
PUBLISHERS = 4


def test_lockfile_names_no_registry() -> None:
    assert "resolved" not in (HERE / "package-lock.json").read_text()


async def publish(name: str, clients: list[ChatClient], stop: asyncio.Event, acknowledged: dict[str, int]) -> None:
    """Posts until told to stop; whatever is not answered is posted again with its key, perhaps to another node."""
    i = 0
    while not stop.is_set():
        i += 1
        while True:
            try:
                client = random.choice(clients)
                acknowledged[f"{name} {i}"] = await client.post("general", f"{name} {i}", author=name, key=str(i))
                break
            except (httpx.HTTPError, Failed):
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.01)


@pytest.mark.timeout(240)
async def test_rolling_restart_under_load_loses_and_repeats_nothing(
    database: dict[str, object], tmp_path: Path
) -> None:
    await asyncio.to_thread(javascript.install, HERE)
    environment = javascript.environment()
    nodes = [ServerProcess(tmp_path, name, **database, drain_seconds=3, drain_sockets_per_second=10) for name in "abc"]
    async with running(*nodes), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(ChatClient(node.url)) for node in nodes]
        task = {
            "nodes": [node.socket_url for node in nodes],
            "channelId": "general",
            "after": await clients[0].head_cursor("general"),
            "clients": CLIENTS,
        }
        follower = await asyncio.create_subprocess_exec(
            shutil.which("node", path=environment["PATH"]) or "node",
            str(HERE / "follow.mjs"),
            json.dumps(task),
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            records: dict[int, list[tuple[int, str]]] = defaultdict(list)
            events: list[dict[str, Any]] = []
            moved = asyncio.Event()

            async def listen() -> None:
                assert follower.stdout is not None
                async for line in follower.stdout:
                    told = json.loads(line)
                    if told["event"] == "message":
                        records[told["client"]].append((told["sequence"], told["content"]))
                    else:
                        events.append(told)
                    moved.set()

            async def until(condition: Any) -> None:
                async with asyncio.timeout(40):
                    while not condition():
                        moved.clear()
                        await moved.wait()

            listening = asyncio.create_task(listen())
            await until(lambda: sum(event["event"] == "connected" for event in events) == CLIENTS)
            stop = asyncio.Event()
            acknowledged: dict[str, int] = {}
            publishers = [asyncio.create_task(publish(f"p{i}", clients, stop, acknowledged)) for i in range(PUBLISHERS)]
            for node in nodes:
                assert await node.restart() == 0
            stop.set()
            await asyncio.gather(*publishers)
            log = await clients[0].history("general")
            await until(lambda: all(records[i] and records[i][-1][0] >= len(log) for i in range(CLIENTS)))
        finally:
            follower.kill()
            await follower.wait()
        await listening
    assert len(log) > 100
    assert [sequence for sequence, _ in log] == list(range(1, len(log) + 1))
    assert {content: sequence for sequence, content in log} == acknowledged
    for i in range(CLIENTS):
        assert records[i] == log
    codes = {event["code"] for event in events if event["event"] == "closed"}
    assert 1012 in codes
    # Besides, a client that finds its node gone hears of no close frame at all.
    assert codes <= {1012, 1006}
    assert not [event for event in events if event["event"] in ("error", "complete")]
