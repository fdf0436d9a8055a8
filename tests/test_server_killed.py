"""kill -9 of the real server while 16 clients post, again and again: nothing acknowledged is lost, doubled or moved."""

import asyncio
import random
from pathlib import Path

import httpx
import pytest

from tests.engine.engine_server import EngineServer

KILLS = 20
CLIENTS = 16


async def post_until_killed(url: str, number: int, round_number: int, acknowledged: dict[str, int]) -> None:
    """Posts one after the other until the server is gone; notes the sequence of each that was acknowledged."""
    async with httpx.AsyncClient(base_url=url, timeout=10) as http:
        for count in range(100_000):
            content = f"{round_number}/{number}/{count}"
            body = {"channel_id": "general", "author": f"client-{number}", "content": content}
            try:
                answer = await http.post("/api/messages", json=body)
            except httpx.HTTPError:
                return
            answer.raise_for_status()
            acknowledged[content] = answer.json()["message"]["sequence"]


async def everything(http: httpx.AsyncClient) -> list[tuple[int, str]]:
    held: list[tuple[int, str]] = []
    after = None
    while True:
        params = {"channel_id": "general", "limit": 1000} | ({"after": after} if after else {})
        page = (await http.get("/api/messages", params=params)).raise_for_status().json()["messages"]
        if not page:
            return held
        held += [(item["sequence"], item["content"]) for item in page]
        after = page[-1]["cursor"]


@pytest.mark.timeout(300)
async def test_server_killed_while_16_clients_post_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    acknowledged: dict[str, int] = {}
    server = EngineServer(tmp_path, log_level="warning")
    for round_number in range(KILLS):
        await server.start()
        before = len(acknowledged)
        clients = [
            asyncio.create_task(post_until_killed(server.url, number, round_number, acknowledged))
            for number in range(CLIENTS)
        ]
        while len(acknowledged) < before + CLIENTS:
            await asyncio.sleep(0.005)
        await asyncio.sleep(random.uniform(0.0, 0.1))
        await server.kill()
        await asyncio.gather(*clients)
    async with server:
        held = await everything(server.http)
        assert [sequence for sequence, _ in held] == list(range(1, len(held) + 1))
        contents = [content for _, content in held]
        assert len(set(contents)) == len(contents)
        assert acknowledged.items() <= {content: sequence for sequence, content in held}.items()
        assert len(acknowledged) >= KILLS * CLIENTS
