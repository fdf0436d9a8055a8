"""The moment from which a client has everything that is posted, on each way in: it can see it, it is never early."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from resolvers.chat import Chat
from tests.fakes import MemoryLog, fill, memory_chat
from tests.transports.graphql_ws_client import graphql_server, next_message, open_acknowledged, subscription
from tests.transports.http_client import over_a_socket
from tests.transports.live_server import RawSocket, serve, until
from tests.transports.test_event_streams import MULTIPART, SSE, subscribed
from transports.serving.websocket_protocol import WebSocketProtocol
from transports.shims.plain_websocket import PlainWebSocket

both_servers = pytest.mark.parametrize("ws", [WebSocketProtocol, "websockets-sansio"], ids=["direct", "asgi-send"])


class SlowHeads:
    """Holds back the log's answer to where a channel stands, until `answer` is set."""

    def __init__(self, chat: Chat) -> None:
        self.asked = asyncio.Event()
        self.answer = asyncio.Event()
        log = chat.log
        assert isinstance(log, MemoryLog)
        read = log.last_sequences

        async def last_sequences(channel_ids: Any) -> dict[str, int]:
            heads = await read(channel_ids)
            self.asked.set()
            await self.answer.wait()
            return heads

        log.last_sequences = last_sequences  # type: ignore[method-assign]


async def nothing_comes(reading: asyncio.Task[Any]) -> None:
    """What is being read has not come, though the loop and the network had time for it."""
    done, _ = await asyncio.wait([reading], timeout=0.1)
    assert not done


@both_servers
async def test_plain_websocket_stands_before_its_handshake_is_answered(ws: Any) -> None:
    async with memory_chat() as chat, serve(PlainWebSocket(chat), ws=ws) as port:
        heads = SlowHeads(chat)
        opening = asyncio.create_task(RawSocket.open(port, "/api/ws/c"))
        await heads.asked.wait()
        await nothing_comes(opening)
        heads.answer.set()
        opened = await opening
        await fill(chat, "c", 1)
        assert (await opened.expect())["data"]["sequence"] == 1
        await opened.close()


@both_servers
async def test_what_is_posted_before_the_answer_to_the_handshake_follows_it(ws: Any) -> None:
    async with memory_chat() as chat:
        endpoint = PlainWebSocket(chat)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_late(event: Message) -> None:
                if event["type"] == "websocket.accept":
                    await fill(chat, "c", 3)
                    await until(lambda: chat.hub.channels["c"].head == 3)
                await send(event)

            await endpoint(scope, receive, send_late)

        async with serve(app, ws=ws) as port:
            opened = await RawSocket.open(port, "/api/ws/c")
            await fill(chat, "c", 1)
            assert [(await opened.expect())["data"]["sequence"] for _ in range(4)] == [1, 2, 3, 4]
            await opened.close()


@both_servers
@pytest.mark.parametrize("gone", [True, False], ids=["client-gone", "ended-by-server"])
async def test_subscription_that_ends_before_the_answer_to_the_handshake_leaves_nothing(ws: Any, gone: bool) -> None:
    async with memory_chat() as chat:
        endpoint = PlainWebSocket(chat)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async def send_late(event: Message) -> None:
                if event["type"] == "websocket.accept":
                    await fill(chat, "c", 3)
                    await until(lambda: chat.hub.channels["c"].head == 3)
                    if gone:
                        writer.transport.abort()
                        await asyncio.sleep(0.05)
                    else:
                        for connection in endpoint.connections:
                            connection.close(1012, "Service restart")
                await send(event)

            await endpoint(scope, receive, send_late)

        async with serve(app, ws=ws) as port:
            if gone:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(
                    b"GET /api/ws/c HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                )
                await until(lambda: "c" in chat.hub.channels)
            else:
                opened = await RawSocket.open(port, "/api/ws/c")
                assert (await opened.expect_close()).code == 1012
            await until(lambda: chat.hub.channels == {})


@both_servers
async def test_graphql_socket_stands_before_the_pong_that_answers_a_ping_behind_its_subscribe(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        heads = SlowHeads(chat)
        opened = await open_acknowledged(port)
        await opened.send(subscription("1"), {"type": "ping"})
        await heads.asked.wait()
        pong = asyncio.create_task(opened.expect())
        await nothing_comes(pong)
        heads.answer.set()
        assert await pong == {"type": "pong"}
        await fill(chat, "general", 1)
        assert await opened.expect() == next_message("1", 1, "1")
        await opened.close()


@pytest.mark.parametrize(
    ("headers", "first"),
    [(SSE, lambda stream: stream.event()), (MULTIPART, lambda stream: stream.part())],
    ids=["sse", "multipart"],
)
async def test_event_stream_stands_before_its_response_headers_are_sent(
    headers: dict[str, str], first: Callable[[Any], Any]
) -> None:
    async with over_a_socket() as (chat, client, app):
        heads = SlowHeads(chat)
        stand = subscribed(client, headers)
        opening = asyncio.create_task(stand.__aenter__())
        await heads.asked.wait()
        await nothing_comes(opening)
        heads.answer.set()
        stream = await opening
        assert isinstance(stream.response, httpx.Response)
        await fill(chat, "c", 1)
        if headers is MULTIPART:
            await stream.until(b"\r\n--graphql")
        assert "1" in str(await first(stream))
        await stand.__aexit__(None, None, None)
        await until(lambda: chat.hub.channels == {} and not len(app.connections))
