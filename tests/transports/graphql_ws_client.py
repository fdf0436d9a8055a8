"""graphql-transport-ws for tests: a server after which nothing may be left, frames of clients, operations that wait."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from messages import ANYONE
from resolvers.chat import Chat
from resolvers.post_message import post_message
from schema.contract import schema
from schema.operations import Operations
from tests.fakes import memory_chat
from tests.transports.live_server import RawSocket, serve
from transports.gate.connections import Connections
from transports.graphql.endpoint import GraphQLWebSocket
from transports.serving.websocket_protocol import WebSocketProtocol

ACK = {"type": "connection_ack"}
SUBSCRIBE = """subscription ($channel: ID!, $after: Cursor) {
  messages(channelId: $channel, after: $after) { sequence content }
}"""
POST = """mutation ($content: String!) {
  postMessage(channelId: "general", author: "ann", content: $content) { sequence }
}"""
HEAD = '{ channel(id: "general") { lastSequence } }'

both_servers = pytest.mark.parametrize("ws", [WebSocketProtocol, "websockets-sansio"], ids=["direct", "asgi-send"])


@asynccontextmanager
async def graphql_server(
    ws: Any = WebSocketProtocol, operations: type[Operations] = Operations, **options: Any
) -> AsyncIterator[tuple[Chat, int]]:
    """A server. At the end no connection, subscriber or task may be left."""
    connections = options.setdefault("connections", Connections())
    async with memory_chat() as chat:
        endpoint = GraphQLWebSocket(operations(schema), chat, **options)
        async with serve(endpoint, ws=ws) as port:
            yield chat, port
        assert len(connections) == 0
        assert chat.hub.subscribers == 0
    assert not asyncio.all_tasks() - {asyncio.current_task()}


async def open_socket(port: int, subprotocol: str | None = "graphql-transport-ws", **options: Any) -> RawSocket:
    return await RawSocket.open(port, "/graphql", subprotocol=subprotocol, **options)


async def open_acknowledged(port: int) -> RawSocket:
    opened = await open_socket(port)
    await opened.send({"type": "connection_init"})
    assert await opened.expect() == ACK
    return opened


def operation(id_: str, query: str, **variables: Any) -> dict[str, Any]:
    return {"id": id_, "type": "subscribe", "payload": {"query": query, "variables": variables}}


def subscription(id_: str, channel: str = "general", after: str | None = None) -> dict[str, Any]:
    return operation(id_, SUBSCRIBE, channel=channel, after=after)


def complete(id_: str) -> dict[str, Any]:
    return {"id": id_, "type": "complete"}


def next_message(id_: str, sequence: int, content: str) -> dict[str, Any]:
    return {"id": id_, "type": "next", "payload": {"data": {"messages": {"sequence": sequence, "content": content}}}}


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


async def settle(opened: RawSocket) -> None:
    """Returns when the server has handled every frame sent so far."""
    await opened.send({"type": "ping"})
    assert await opened.expect() == {"type": "pong"}


async def post(chat: Chat, *contents: str, channel: str = "general") -> None:
    for content in contents:
        await post_message(chat, ANYONE, channel_id=channel, author="ann", content=content)


class Gated(Operations):
    """Operations that wait for an event before they are executed, and before they subscribe."""

    gate: asyncio.Event
    waiting: int
    most_waiting: int

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        type(self).gate = asyncio.Event()
        type(self).waiting = type(self).most_waiting = 0

    async def pass_gate(self) -> None:
        cls = type(self)
        cls.waiting += 1
        cls.most_waiting = max(cls.waiting, cls.most_waiting)
        try:
            await cls.gate.wait()
        finally:
            cls.waiting -= 1


class GatedExecution(Gated):
    async def run(self, *arguments: Any, **keywords: Any) -> Any:
        await self.pass_gate()
        return await super().run(*arguments, **keywords)


class GatedSubscribing(Gated):
    async def subscribe(self, *arguments: Any, **keywords: Any) -> Any:
        await self.pass_gate()
        return await super().subscribe(*arguments, **keywords)
