"""An LLM bot that answers every message mentioning it, once, whatever is restarted in between.

`follow` and `post` are the recipe to copy: a tail that goes on for ever without a gap, and posts that may be repeated.

    uv run python -m examples.agent general
"""

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from typing import Any

from gql import Client, GraphQLRequest, gql
from gql.transport.aiohttp import AIOHTTPTransport
from gql.transport.exceptions import TransportError, TransportQueryError
from gql.transport.websockets import WebsocketsTransport
from websockets.exceptions import WebSocketException

LOST = (TransportError, WebSocketException, OSError)
PASSING = {"UNAVAILABLE", "RATE_LIMITED", "INTERNAL_SERVER_ERROR"}

HEAD = gql("query ($channelId: ID!) { channel(id: $channelId) { headCursor } }")
MESSAGES = gql("""subscription ($channelId: ID!, $after: Cursor!) {
    messages(channelId: $channelId, after: $after) { id sequence cursor author content lane timestamp } }""")
POST = gql("""mutation ($channelId: ID!, $author: String!, $content: String!, $lane: String, $provider: String,
                        $tokenCount: Int, $idempotencyKey: String!) {
    postMessage(channelId: $channelId, author: $author, content: $content, lane: $lane, provider: $provider,
                tokenCount: $tokenCount, idempotencyKey: $idempotencyKey) { id sequence cursor } }""")


async def until_answered(url: str, query: GraphQLRequest, **variables: Any) -> dict[str, Any]:
    """The data of a query or mutation; tries again through lost connections and errors that pass by themselves."""
    while True:
        try:
            async with Client(transport=AIOHTTPTransport(url)) as session:
                return await session.execute(GraphQLRequest(query, variable_values=variables))
        except TransportQueryError as error:
            if code_of(error) not in PASSING:
                raise
        except LOST:
            pass
        await asyncio.sleep(random.uniform(0.3, 1.5))


async def post(url: str, *, idempotency_key: str, **message: Any) -> dict[str, Any]:
    """Posts once, however often it has to try: the server returns the first message for a repeated key."""
    return (await until_answered(url, POST, idempotencyKey=idempotency_key, **message))["postMessage"]


async def follow(url: str, channel_id: str, after: str | None = None) -> AsyncIterator[dict[str, Any]]:
    """Every message after the cursor (None: from now on), once, in order, for ever."""
    after = after or (await until_answered(url, HEAD, channelId=channel_id))["channel"]["headCursor"]
    while True:
        # The ping finds a connection that is dead without saying so; the cursor says where to go on.
        socket = WebsocketsTransport(url.replace("http", "ws", 1), ping_interval=10, pong_timeout=5)
        try:
            async with Client(transport=socket) as session:
                query = GraphQLRequest(MESSAGES, variable_values={"channelId": channel_id, "after": after})
                async for result in session.subscribe(query):
                    after = result["messages"]["cursor"]
                    yield result["messages"]
        except TransportQueryError as error:
            if code_of(error) == "CURSOR_EXPIRED":  # retention was faster: go on with the oldest message still held
                after = error.errors[0]["extensions"]["resumeCursor"]
            elif code_of(error) not in PASSING:
                raise
        except LOST:
            pass
        await asyncio.sleep(random.uniform(0.3, 1.5))


def code_of(error: TransportQueryError) -> str:
    return (error.errors or [{}])[0].get("extensions", {}).get("code", "")


async def think(prompt: str) -> tuple[str, int]:
    """Where a model would be asked. Returns the answer and the tokens it cost."""
    await asyncio.sleep(0.1)
    return f"You said {len(prompt.split())} words; I would need a model to say more.", len(prompt.split())


async def run(url: str, channel_id: str, after: str | None = None, name: str = "scribe") -> None:
    """Answers for ever. The key names the message answered, so reading a message again answers it no second time."""
    async for message in follow(url, channel_id, after):
        if f"@{name}" in message["content"] and message["author"] != name:
            answer, tokens = await think(message["content"])
            await post(
                url,
                channelId=channel_id,
                author=name,
                content=f"@{message['author']} {answer}",
                lane="answers",
                provider="anthropic",
                tokenCount=tokens,
                idempotency_key=f"answer to {message['id']}",
            )


if __name__ == "__main__":
    asyncio.run(run("http://127.0.0.1:8010/graphql", sys.argv[1] if len(sys.argv) > 1 else "general"))
