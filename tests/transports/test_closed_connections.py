"""What a closed connection leaves: nothing that only the cyclic collector would find.

The server lets a full collection happen once in 25 million allocations. What has outlived the young generations, as a
connection does, and then becomes cyclic garbage, stays until that.
"""

import asyncio
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest

from messages import ANYONE
from resolvers.chat import Chat
from resolvers.post_message import post_message
from tests.transports.graphql_ws_client import ACK, complete, operation, subscription
from tests.transports.http_client import over_a_socket
from tests.transports.live_server import RawSocket, until

SERVER_PACKAGES = {
    "delivery", "fastapi", "graphql", "httptools", "message_log", "messages", "resolvers", "schema", "starlette",
    "strawberry", "transports", "uvicorn", "websockets",
}  # fmt: skip
"""The client's own cycles (asyncio's streams, httpx) do not count."""


def live_on() -> None:
    """Lets the young collections of a while pass: what is garbage by now they would have found."""
    gc.collect()


def server_objects() -> Counter[str]:
    """The server's objects in memory, by type."""
    found: Counter[str] = Counter()
    for each in gc.get_objects():
        module = type(each).__module__
        if isinstance(module, str) and module.partition(".")[0] in SERVER_PACKAGES:
            found[f"{module}.{type(each).__qualname__}"] += 1
    return found


async def post(chat: Chat) -> None:
    await post_message(chat, ANYONE, channel_id="general", author="ann", content="hello")


EXECUTED = """subscription ($yes: Boolean = true) {
  messages(channelId: "general") { ... @include(if: $yes) { content recent: tokenCount } }
}"""


async def graphql_ws(chat: Chat, port: int, query: str | None = None) -> RawSocket:
    opened = await RawSocket.open(port, "/graphql", subprotocol="graphql-transport-ws")
    await opened.send({"type": "connection_init"})
    assert await opened.expect() == ACK
    await opened.send(subscription("1") if query is None else operation("1", query), {"type": "ping"})
    assert await opened.expect() == {"type": "pong"}
    await post(chat)
    assert (await opened.expect())["type"] == "next"
    live_on()
    return opened


async def plain(chat: Chat, port: int) -> RawSocket:
    opened = await RawSocket.open(port, "/api/ws/general")
    await until(lambda: chat.hub.subscribers > 0)
    await post(chat)
    assert (await opened.expect())["type"] == "message"
    live_on()
    return opened


async def keep_alive(chat: Chat, port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        body = {"channel_id": "general", "author": "ann", "content": "hello"}
        assert (await client.post("/api/messages", json=body)).status_code == 200
        assert (await client.get("/api/messages", params={"channel_id": "general"})).status_code == 200
        assert (await client.post("/graphql", json={"query": "{ channels { id } }"})).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
        live_on()


async def sent_ahead(chat: Chat, port: int) -> None:
    """A stream with requests behind it, which will never be answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    query = "subscription%7Bmessages(channelId:%22general%22)%7Bcontent%7D%7D"
    stream = f"GET /graphql?query={query} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n\r\n"
    writer.write(stream.encode() + b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n" * 50)
    await reader.readuntil(b":\n")
    live_on()
    writer.transport.abort()


async def event_stream(chat: Chat, port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        query = 'subscription { messages(channelId: "general") { content } }'
        request = client.stream("POST", "/graphql", json={"query": query}, headers={"accept": "text/event-stream"})
        async with request as response:
            await until(lambda: chat.hub.subscribers > 0)
            await post(chat)
            async for piece in response.aiter_bytes():
                if b"hello" in piece:
                    live_on()
                    break


async def completed(chat: Chat, opened: Awaitable[RawSocket]) -> None:
    socket = await opened
    await socket.send(complete("1"))
    await until(lambda: chat.hub.subscribers == 0)
    await socket.close()


async def closed(opened: Awaitable[RawSocket]) -> None:
    await (await opened).close()


async def reset(opened: Awaitable[RawSocket]) -> None:
    (await opened).reset()


Visit = Callable[[Chat, int], Awaitable[None]]


@pytest.fixture
async def served() -> AsyncIterator[tuple[Chat, int, Callable[[], bool]]]:
    async with over_a_socket() as (chat, client, app):
        # A stream with requests behind it reads no more: it learns at a heartbeat that its client is gone.
        app._graphql_http._heartbeat_seconds = 0.2
        yield chat, client.base_url.port or 0, lambda: not chat.hub.channels and not len(app.connections)


@pytest.mark.parametrize(
    "visit",
    [
        pytest.param(lambda chat, port: closed(graphql_ws(chat, port)), id="graphql-ws-closed"),
        pytest.param(lambda chat, port: reset(graphql_ws(chat, port)), id="graphql-ws-reset"),
        pytest.param(lambda chat, port: closed(graphql_ws(chat, port, EXECUTED)), id="graphql-ws-executed"),
        pytest.param(lambda chat, port: completed(chat, graphql_ws(chat, port)), id="graphql-ws-completed"),
        pytest.param(lambda chat, port: closed(plain(chat, port)), id="plain-websocket-closed"),
        pytest.param(lambda chat, port: reset(plain(chat, port)), id="plain-websocket-reset"),
        pytest.param(keep_alive, id="http"),
        pytest.param(event_stream, id="event-stream"),
        pytest.param(sent_ahead, id="sent-ahead"),
    ],
)
async def test_closed_connection_leaves_no_cyclic_garbage(
    visit: Visit, served: tuple[Chat, int, Callable[[], bool]]
) -> None:
    chat, port, left = served
    await visit(chat, port)  # What is built once, at the first use, may leave something.
    await until(left)
    gc.disable()
    try:
        await visit(chat, port)
        await until(left)
        # Not by `DEBUG_SAVEALL`: it does not see what a finalizer frees, a suspended generator with all that it holds.
        before = server_objects()
        gc.collect()
        assert before - server_objects() == {}
    finally:
        gc.enable()


async def test_upgraded_connection_keeps_nothing_of_its_http_side(served: tuple[Chat, int, Callable[[], bool]]) -> None:
    _, port, _ = served
    gc.collect()
    gc.disable()
    try:
        opened = await RawSocket.open(port, "/graphql", subprotocol="graphql-transport-ws")
        held = server_objects()
        assert held["transports.serving.websocket_protocol.WebSocketProtocol"] == 1
        assert held["transports.serving.http_protocol.HttpProtocol"] == 0
        await opened.close()
    finally:
        gc.enable()
