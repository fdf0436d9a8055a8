"""The clients that are not in JavaScript: `python -m tests.clients.programs NAME WORK`, like `client.mjs`."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

import httpx
from gql import Client, GraphQLRequest, gql
from gql.transport.websockets import WebsocketsTransport
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from examples.channel_client import LOST, MESSAGES, ask, follow, post

PAUSE_SECONDS = 0.05
FIRST = gql("query ($id: ID!) { message(id: $id) { content } }")
PAGE_TEXT = """query ($channelId: ID!, $before: Cursor) {
    channel(id: $channelId) { messages(last: 100, before: $before) {
        edges { node { sequence } } pageInfo { hasPreviousPage startCursor } } } }"""
PAGE = gql(PAGE_TEXT)

Messages = AsyncIterator[dict[str, Any]]


def tell(**what: object) -> None:
    print(json.dumps(what), flush=True)


class Gql:
    """The package gql, with the client of the example. With tokens it is a different loop, since the example has
    none."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def first(self, channel: str) -> str:
        return str((await ask(self.url, FIRST, id=f"{channel}:1"))["message"]["content"])

    async def post_twice(self, channel: str, key: str) -> list[int]:
        message = {"channelId": channel, "author": "gql", "content": "once"}
        return [(await post(self.url, idempotency_key=key, **message))["sequence"] for _ in range(2)]

    async def history(self, channel: str) -> list[int]:
        sequences: list[int] = []
        before = None
        while True:
            page = (await ask(self.url, PAGE, channelId=channel, before=before))["channel"]["messages"]
            sequences = [edge["node"]["sequence"] for edge in page["edges"]] + sequences
            if not page["pageInfo"]["hasPreviousPage"]:
                return sequences
            before = page["pageInfo"]["startCursor"]

    async def follow(self, channel: str, after: str, tokens: str | None) -> Messages:
        if tokens is None:
            async for message in follow(self.url, channel, after):
                yield message
        while tokens is not None:
            try:
                params = {"Authorization": f"Bearer {await token_from(tokens)}"}
                socket = WebsocketsTransport(self.url.replace("http", "ws", 1), init_payload=params)
                async with Client(transport=socket) as session:
                    query = GraphQLRequest(MESSAGES, variable_values={"channelId": channel, "after": after})
                    async for result in session.subscribe(query):
                        after = result["messages"]["cursor"]
                        yield result["messages"]
            except LOST:
                await asyncio.sleep(PAUSE_SECONDS)


class Plain:
    """A client of the earlier server: the plain WebSocket, and REST for earlier messages."""

    def __init__(self, url: str) -> None:
        self.url = url.removesuffix("/graphql")
        self.http = httpx.AsyncClient(base_url=self.url)

    async def first(self, channel: str) -> str:
        return str((await self._page(channel, limit=1))[0]["content"])

    async def post_twice(self, channel: str, key: str) -> list[int]:
        body = {"channel_id": channel, "author": "websocket", "content": "once"}
        answers = [
            (await self.http.post("/api/messages", json=body, headers={"Idempotency-Key": key})).raise_for_status()
            for _ in range(2)
        ]
        return [answer.json()["message"]["sequence"] for answer in answers]

    async def history(self, channel: str) -> list[int]:
        items = await self._page(channel, limit=100)
        while page := await self._page(channel, limit=100, after=items[-1]["cursor"]):
            items += page
        return [item["sequence"] for item in items]

    async def _page(self, channel: str, **parameters: object) -> list[dict[str, Any]]:
        answer = await self.http.get("/api/messages", params={"channel_id": channel, **parameters})  # type: ignore[arg-type]
        items: list[dict[str, Any]] = answer.raise_for_status().json()["messages"]
        return items

    async def follow(self, channel: str, after: str, tokens: str | None) -> Messages:
        while True:
            url = f"{self.url.replace('http', 'ws', 1)}/api/ws/{channel}?after={quote(after)}"
            try:
                async with connect(url if tokens is None else f"{url}&token={await token_from(tokens)}") as socket:
                    async for text in socket:
                        frame = json.loads(text)
                        if frame["type"] == "message":
                            after = frame["data"]["cursor"]
                            yield frame["data"]
            except (WebSocketException, OSError):
                pass
            await asyncio.sleep(PAUSE_SECONDS)


class Curl:
    """curl, with one process for each request. The stream is read line by line, as in a shell script."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def _ask(self, query: str, **variables: object) -> Any:
        body = json.dumps({"query": query, "variables": variables})
        curl = await self._curl("-H", "Content-Type: application/json", "-d", body)
        output, _ = await curl.communicate()
        return json.loads(output)["data"]

    async def _curl(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "curl", "--silent", "--no-buffer", *arguments, self.url, stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )

    async def first(self, channel: str) -> str:
        return str((await self._ask(f'{{ message(id: "{channel}:1") {{ content }} }}'))["message"]["content"])

    async def post_twice(self, channel: str, key: str) -> list[int]:
        mutation = """mutation ($channel: ID!, $key: String!) {
            postMessage(channelId: $channel, author: "curl", content: "once", idempotencyKey: $key) { sequence } }"""
        return [(await self._ask(mutation, channel=channel, key=key))["postMessage"]["sequence"] for _ in range(2)]

    async def history(self, channel: str) -> list[int]:
        sequences: list[int] = []
        before = None
        while True:
            page = (await self._ask(PAGE_TEXT, channelId=channel, before=before))["channel"]["messages"]
            sequences = [edge["node"]["sequence"] for edge in page["edges"]] + sequences
            if not page["pageInfo"]["hasPreviousPage"]:
                return sequences
            before = page["pageInfo"]["startCursor"]

    async def follow(self, channel: str, after: str, tokens: str | None) -> Messages:
        query = f'subscription {{ messages(channelId: "{channel}") {{ sequence content }} }}'
        while True:
            # The id of the event is the cursor. This header sends it back, so nothing else has to be stored.
            headers = ["-H", "Accept: text/event-stream", "-H", f"Last-Event-ID: {after}"]
            if tokens is not None:
                headers += ["-H", f"Authorization: Bearer {await token_from(tokens)}"]
            curl = await self._curl(*headers, "--get", "--data-urlencode", f"query={query}")
            assert curl.stdout is not None
            event: dict[str, str] = {}
            async for line in curl.stdout:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    event[name] = value
                elif event:
                    # An event that is not followed by an empty line was cut off, and does not count.
                    data = json.loads(event.get("data") or "{}")
                    if "id" in event:
                        after = event["id"]
                        yield data["data"]["messages"]
                    event = {}
            await curl.wait()
            await asyncio.sleep(PAUSE_SECONDS)


CLIENTS: dict[str, Callable[[str], Gql | Plain | Curl]] = {"gql": Gql, "websocket": Plain, "curl": Curl}


async def token_from(url: str) -> str:
    async with httpx.AsyncClient() as http:
        return (await http.get(url)).raise_for_status().text


async def run(name: str, work: dict[str, Any]) -> None:
    client = CLIENTS[name](work["url"])

    async def follow_one(url: str, channel: str, after: str, tokens: str | None = None) -> None:
        async with aclosing(CLIENTS[name](url).follow(channel, after, tokens)) as messages:
            async for message in messages:
                tell(channel=channel, sequence=message["sequence"], content=message["content"][:20])

    following = [asyncio.create_task(follow_one(**each)) for each in work["follow"]]
    tell(cell="query", value=await client.first(work["past"]))
    tell(cell="mutation", value=await client.post_twice(work["own"], work["key"]))
    tell(cell="history", value=await client.history(work["past"]))
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    done, _ = await asyncio.wait({ended, *following}, return_when=asyncio.FIRST_COMPLETED)
    for task in following:
        if task in done:
            task.result()
        task.cancel()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], json.loads(sys.argv[2])))
