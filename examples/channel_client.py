"""Follows a channel without a gap, and posts each message once, through any restart. Copy this file."""

import asyncio
import random
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
                        $tokenCount: Int, $idempotencyKey: String!, $complete: Boolean = true) {
    postMessage(channelId: $channelId, author: $author, content: $content, lane: $lane, provider: $provider,
                tokenCount: $tokenCount, idempotencyKey: $idempotencyKey, complete: $complete) {
        id sequence cursor content revision complete } }""")
APPEND = gql("""mutation ($id: ID!, $revision: Int!, $piece: String!, $tokenCount: Int, $complete: Boolean = false) {
    appendToMessage(id: $id, revision: $revision, piece: $piece, tokenCount: $tokenCount, complete: $complete) {
        id content revision complete } }""")


async def ask(url: str, query: GraphQLRequest, **variables: Any) -> Any:
    """The data of a query or mutation. Tries again after lost connections, and after errors that do not last."""
    while True:
        try:
            async with Client(transport=AIOHTTPTransport(url)) as session:
                return await session.execute(GraphQLRequest(query, variable_values=variables))
        except LOST as error:
            if isinstance(error, TransportQueryError) and extensions_of(error).get("code") not in PASSING:
                raise
        await asyncio.sleep(random.uniform(0.3, 1.5))


async def post(url: str, *, idempotency_key: str, **message: Any) -> Any:
    """Posts one message, however often it has to try: the server answers a repeated key with the first message."""
    return (await ask(url, POST, idempotencyKey=idempotency_key, **message))["postMessage"]


async def append(url: str, message: dict[str, Any], piece: str, **more: Any) -> Any:
    """Appends `piece` to a message once, however often it has to try: the server does not append the same piece again.
    If somebody else has completed or changed the message, it raises TransportQueryError. The code (`extensions_of`) is
    MESSAGE_COMPLETE or REVISION_CONFLICT."""
    given = {"id": message["id"], "revision": message["revision"], "piece": piece, **more}
    return (await ask(url, APPEND, **given))["appendToMessage"]


async def follow(url: str, channel_id: str, after: str | None = None) -> AsyncIterator[dict[str, Any]]:
    """Every message after the cursor, once, in order, without end. None as a cursor means: from now on."""
    after = after or (await ask(url, HEAD, channelId=channel_id))["channel"]["headCursor"]
    while True:
        # The ping finds out when a connection is lost without a notice. The cursor says where to continue.
        socket = WebsocketsTransport(url.replace("http", "ws", 1), ping_interval=10, pong_timeout=5)
        try:
            async with Client(transport=socket) as session:
                query = GraphQLRequest(MESSAGES, variable_values={"channelId": channel_id, "after": after})
                async for result in session.subscribe(query):
                    after = result["messages"]["cursor"]
                    yield result["messages"]
        except LOST as error:
            if isinstance(error, TransportQueryError) and extensions_of(error).get("code") not in PASSING:
                if "resumeCursor" not in extensions_of(error):
                    raise
                after = extensions_of(error)["resumeCursor"]  # continue before the oldest message that is left
        await asyncio.sleep(random.uniform(0.3, 1.5))


def extensions_of(error: TransportQueryError) -> dict[str, Any]:
    return (error.errors or [{}])[0].get("extensions") or {}
