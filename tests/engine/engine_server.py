"""A server process as an operator sees it: its memory, its metrics, its sockets."""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from tests.engine.client import Client
from tests.server_process import ServerProcess

_SAMPLE = re.compile(r'^(\w+)(?:\{(\w+)="([^"]*)"\})? (\S+)$', re.M)


class EngineServer(ServerProcess):
    """A `ServerProcess` with a client for its HTTP endpoints. It runs inside its `async with` block."""

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, **options)
        self.http = httpx.AsyncClient(base_url=self.url, timeout=30)

    async def __aenter__(self) -> "EngineServer":
        try:
            await self.start()
        except BaseException:
            await self.kill()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.http.aclose()
        await self.kill()

    async def metrics(self) -> dict[str, float]:
        """The samples of `/metrics`: by name, with a label by `name{value}`."""
        text = (await self.http.get("/metrics")).raise_for_status().text
        return {
            f"{name}{{{value}}}" if label else name: float(number)
            for name, label, value, number in _SAMPLE.findall(text)
        }

    async def until(self, condition: Callable[[dict[str, float]], bool], seconds: float = 30) -> dict[str, float]:
        """Waits until the metrics fulfil the condition, and returns them."""
        seen: dict[str, float] = {}
        try:
            async with asyncio.timeout(seconds):
                while True:
                    seen = await self.metrics()
                    if condition(seen):
                        return seen
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s; the server says {seen}\n{self.log()[-3000:]}") from None

    async def until_empty(self, subscribers: int = 0) -> dict[str, float]:
        """Waits until no client is connected and nothing of clients is left, except `subscribers` of a probe."""
        return await self.until(
            lambda seen: (
                sum(value for name, value in seen.items() if name.startswith("raqcoon_connections{")) == subscribers
                and seen["raqcoon_subscribers"] == subscribers
                and seen["raqcoon_cohorts"] <= subscribers
                and seen["raqcoon_catch_ups"] == 0
            )
        )

    async def post(self, content: str, channel: str = "general", author: str = "ann") -> dict[str, Any]:
        """Posts over REST and returns the item."""
        body = {"channel_id": channel, "author": author, "content": content}
        answer = (await self.http.post("/api/messages", json=body)).raise_for_status().json()
        item: dict[str, Any] = answer["message"]
        return item

    async def post_many(self, count: int, *, content: Callable[[int], str], channel: str = "general") -> None:
        """Posts `content(1…count)` in this order, with several posts under way at the same time."""
        await post_in_order(self.port, count, content, channel)


MUTATION = """mutation ($channel: ID!, $content: String!) {
  postMessage(channelId: $channel, author: "ann", content: $content) { sequence }
}"""


async def post_in_order(port: int, count: int, content: Callable[[int], str], channel: str) -> None:
    """Posts over one graphql-transport-ws socket, several at a time. The server begins them in order."""
    async with await Client.open(port) as client:
        for start in range(1, count + 1, 32):
            numbers = range(start, min(start + 32, count + 1))
            await client.send(
                *(client.operation(f"{n}", MUTATION, channel=channel, content=content(n)) for n in numbers)
            )
            done = 0
            while done < len(numbers):
                frame = await client.next_frame()
                assert "errors" not in frame.get("payload", {}), frame
                done += frame["type"] == "complete"
