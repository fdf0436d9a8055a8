"""While PostgreSQL is away: nothing is acknowledged, nobody is thrown out, and all goes on when it is back."""

import asyncio
from pathlib import Path

import httpx
import pytest

from tests.cluster.chat_client import ChatClient, Failed
from tests.cluster.proxy import proxied
from tests.cluster.subscriber import Subscriber, subscribed
from tests.server_process import ServerProcess, running

pytestmark = pytest.mark.timeout(150)

OUTAGE_SECONDS = 6.0
GROWTH_BYTES_MAX = 24 * 2**20


@pytest.mark.parametrize("how", ["cut", "stall"])
async def test_database_away_posts_are_refused_and_subscribers_stay(
    database: dict[str, object], tmp_path: Path, how: str
) -> None:
    codes: set[str] = set()
    async with proxied(str(database["database_url"])) as proxy:
        node = ServerProcess(tmp_path, **{**database, "database_url": proxy.url})
        async with running(node), ChatClient(node.url) as client:
            cursor = await client.head_cursor("general")
            subscriber = Subscriber("s", "general", [node.socket_url], after=cursor)
            async with subscribed(subscriber):
                acknowledged = [await client.post("general", f"before {i}") for i in range(20)]
                assert await client.ready()
                before = node.memory_bytes

                (proxy.cut if how == "cut" else proxy.stall)()
                rest = await client.http.post(
                    "/api/messages", json={"channel_id": "general", "author": "ada", "content": "rest"}
                )
                assert rest.status_code == 503
                assert int(rest.headers["retry-after"]) >= 1
                with pytest.raises(Failed) as refused:
                    await client.post("general", "graphql")
                assert refused.value.extensions["code"] == "UNAVAILABLE"
                assert refused.value.extensions["retryAfterMs"] > 0
                assert not await client.ready()
                assert (await client.http.get("/healthz")).status_code == 200
                acknowledged += await insist(client, OUTAGE_SECONDS, codes)
                assert len(acknowledged) == 20, "nothing is acknowledged that was not committed"
                growth = node.memory_bytes - before
                assert growth < GROWTH_BYTES_MAX, f"{growth / 2**20:.1f} MiB more"

                proxy.heal()
                async with asyncio.timeout(20):
                    while not await client.ready():
                        await asyncio.sleep(0.1)
                    while True:
                        try:
                            last = await client.post("general", "after", key="after")
                            break
                        except Failed as failed:
                            codes.add(failed.extensions["code"])
                            await asyncio.sleep(0.1)
                    await subscriber.until(last)
            assert codes == {"UNAVAILABLE"}
            assert subscriber.connections == 1, "it was never disconnected"
            log = await client.history("general")
            assert subscriber.record == log
            assert [sequence for sequence, _ in log] == list(range(1, last + 1))
            held = [content for _, content in log]
            assert len(held) == len(set(held))


async def insist(client: ChatClient, seconds: float, codes: set[str]) -> list[int]:
    """What 40 posters, who try for so long, have acknowledged; adds the codes of their errors to `codes`."""
    give_up = asyncio.get_running_loop().time() + seconds
    acknowledged: list[int] = []

    async def poster(author: str) -> None:
        i = 0
        while asyncio.get_running_loop().time() < give_up:
            i += 1
            try:
                acknowledged.append(await client.post("general", f"{author} {i} {'x' * 4000}", author=author))
            except Failed as failed:
                codes.add(failed.extensions["code"])
            except httpx.HTTPError:
                pass

    await asyncio.gather(*(poster(f"insists {i}") for i in range(40)))
    return acknowledged


async def test_server_that_starts_without_its_database_says_so_at_once(tmp_path: Path) -> None:
    node = ServerProcess(tmp_path, database_url="postgresql://u:secret@127.0.0.1:1/x")
    await node.launch()
    assert await node.gone() == 2
    said = node.log()
    assert "raqcoon: the database postgresql://127.0.0.1:1/x cannot be used" in said
    assert "secret" not in said
