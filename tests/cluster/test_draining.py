"""SIGTERM: subscribers are sent away in steps, posts in flight are finished, and nobody can hold the process."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from tests.cluster.chat_client import ChatClient, Failed
from tests.cluster.subscriber import Subscriber, subscribed
from tests.server_process import ServerProcess, running

pytestmark = pytest.mark.timeout(150)

DRAIN_SECONDS = 4.0
SUBSCRIBERS = 60


async def test_drain_is_paced_and_ends_in_time_though_a_client_does_not_read(
    database: dict[str, object], tmp_path: Path
) -> None:
    node = ServerProcess(tmp_path, **database, drain_seconds=DRAIN_SECONDS, drain_sockets_per_second=40)
    loop = asyncio.get_running_loop()
    ends: list[tuple[float, int | None]] = []

    def ended(code: int | None) -> None:
        ends.append((loop.time(), code))

    async with running(node), ChatClient(node.url) as client, AsyncExitStack() as stack:
        cursor = await client.head_cursor("general")
        subscribers = [
            Subscriber(f"s{i}", "general", [node.socket_url], after=cursor, ended=ended) for i in range(SUBSCRIBERS)
        ]
        stuck = Subscriber("stuck", "flood", [node.socket_url], after=await client.head_cursor("flood"))
        await stack.enter_async_context(subscribed(*subscribers, stuck))
        stuck.pause()
        for _ in range(60):
            await client.post("flood", "x" * 60_000)
        acknowledged: list[int] = []
        told: list[str] = []

        async def poster(name: str) -> None:
            i = 0
            try:
                while True:
                    i += 1
                    acknowledged.append(await client.post("general", f"{name} {i}", author=name))
            except Failed as failed:
                told.append(failed.extensions["code"])
            except httpx.HTTPError:
                told.append("closed")

        posters = [asyncio.create_task(poster(f"p{i}")) for i in range(8)]
        while len(acknowledged) < 50:
            await asyncio.sleep(0.01)
        began = loop.time()
        node.terminate()
        await asyncio.sleep(0.1)
        node.terminate()  # a second one changes nothing
        assert await node.gone() == 0
        took = loop.time() - began
        await asyncio.gather(*posters)
        assert set(told) <= {"UNAVAILABLE", "closed"}

        # Those that came later found nobody.
        closes = sorted((at, code) for at, code in ends if code is not None)
        assert [code for _, code in closes] == [1012] * SUBSCRIBERS
        assert closes[-1][0] - closes[0][0] > 0.7, "in steps"
        assert took < DRAIN_SECONDS + 3, f"{took:.1f} s"
        assert took > DRAIN_SECONDS - 1, "the stuck client got its time"

        await node.start()
        held = dict(await client.history("general"))
        assert len(held) == max(held), "without gaps"
        assert set(acknowledged) <= set(held)
        async with asyncio.timeout(20):
            for subscriber in subscribers:
                await subscriber.until(max(held))
        assert all(subscriber.record == sorted(held.items()) for subscriber in subscribers)
        stuck.go_on()
        async with asyncio.timeout(20):
            await stuck.until(60)
        assert stuck.sequences == list(range(1, 61))
