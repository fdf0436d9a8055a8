"""What a subscription that waits for messages makes the server hold: not what the client said to start it."""

import asyncio
import gc
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import DocumentNode

from schema.documents import Prepared
from schema.operations import Operations
from tests.fakes import memory_chat
from tests.transports.graphql_ws_client import graphql_server, open_acknowledged, operation, post, settle
from tests.transports.live_server import serve, until
from transports.gate.origins import Origins
from transports.graphql.http import GraphQLHTTP

SUBSCRIPTIONS = 16
UNUSED = "x" * 200_000
HELD_BYTES_MAX = 40_000
"""What a subscription may hold in these tests: a fifth of the variables that came with it."""


class Forgetful(Operations):
    """Operations whose cache of documents is empty: what is left of documents is what subscriptions keep."""

    def _prepare(self, *arguments: Any) -> Prepared:
        prepared = super()._prepare(*arguments)
        self._documents._cached.clear()
        return prepared


def document(number: int) -> str:
    """One of its own for each number, so that nothing is shared."""
    return f'subscription S{number} {{ messages(channelId: "general") {{ id content }} }}'


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def held_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def held_documents() -> int:
    gc.collect()
    return sum(isinstance(each, DocumentNode) for each in gc.get_objects())


@pytest.mark.usefixtures("traced")
async def test_idle_socket_keeps_neither_variables_nor_documents() -> None:
    documents = held_documents()
    async with graphql_server(operations=Forgetful) as (chat, port):
        opened = await open_acknowledged(port)
        first = operation("first", document(SUBSCRIPTIONS), unused=UNUSED)
        await opened.send(first, {"id": "first", "type": "complete"})
        await settle(opened)
        before = held_bytes()
        for number in range(SUBSCRIPTIONS):
            await opened.send(operation(str(number), document(number), unused=UNUSED))
            await settle(opened)
        assert held_bytes() - before < SUBSCRIPTIONS * HELD_BYTES_MAX
        assert held_documents() == documents
        await post(chat, "x")
        for _ in range(SUBSCRIPTIONS):
            assert (await opened.expect())["payload"] == {"data": {"messages": {"id": "general:1", "content": "x"}}}
        await opened.close()


@pytest.mark.usefixtures("traced")
async def test_idle_stream_keeps_neither_variables_nor_documents() -> None:
    documents = held_documents()
    async with memory_chat() as chat, serve(GraphQLHTTP(chat, Forgetful(), origins=Origins("127.0.0.1"))) as port:

        async def open_stream(number: int) -> asyncio.StreamWriter:
            body = json.dumps({"query": document(number), "variables": {"unused": UNUSED}}).encode()
            head = (
                f"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: text/event-stream\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode() + body)
            await writer.drain()
            assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
            return writer

        opened = [await open_stream(SUBSCRIPTIONS)]
        try:
            before = held_bytes()
            opened += [await open_stream(number) for number in range(SUBSCRIPTIONS)]
            assert chat.hub.subscribers == 1 + SUBSCRIPTIONS
            assert held_bytes() - before < SUBSCRIPTIONS * HELD_BYTES_MAX
            assert held_documents() == documents
        finally:
            # Also after a failed assertion: a server that is left waits for its streams.
            for writer in opened:
                writer.close()
        async with asyncio.timeout(20):
            await until(lambda: not chat.hub.subscribers)
