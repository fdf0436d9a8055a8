"""The plain WebSocket over a raw socket against a real server."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from starlette.types import Scope

from errors import CursorExpired, Forbidden, RaqcoonError, Unauthenticated, Unavailable
from messages import ANYONE, Viewer, encode_cursor
from patterns import NO_CHANNEL, ChannelPatterns
from resolvers.chat import Chat
from resolvers.post_message import post_message
from tests.fakes import MemoryLog, fill, memory_chat, viewer_of_patterns
from tests.transports.live_server import Closed, RawSocket, Refused, serve
from transports.gate.connections import Connections
from transports.serving.websocket_protocol import WebSocketProtocol
from transports.shims.plain_websocket import PlainWebSocket


@asynccontextmanager
async def plain_server(ws: Any = WebSocketProtocol, **options: Any) -> AsyncIterator[tuple[Chat, int]]:
    connections = options.setdefault("connections", Connections())
    async with memory_chat() as chat:
        async with serve(PlainWebSocket(chat, **options), ws=ws) as port:
            yield chat, port
        assert len(connections) == 0
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others


async def open_socket(port: int, channel: str = "general", query: str = "") -> RawSocket:
    return await RawSocket.open(port, f"/api/ws/{quote(channel, safe='')}{query}")


async def post(chat: Chat, content: str, channel: str = "general", **fields: Any) -> Any:
    return await post_message(chat, ANYONE, channel_id=channel, author="ann", content=content, **fields)


@pytest.mark.parametrize("ws", [WebSocketProtocol, "websockets-sansio"], ids=["direct", "asgi-send"])
async def test_message_posted_reaches_every_socket_of_the_channel_the_senders_too(ws: Any) -> None:
    async with plain_server(ws) as (_, port):
        one, two, elsewhere = await open_socket(port), await open_socket(port), await open_socket(port, "other")
        await one.send({"type": "message", "author": "bob", "content": "hello", "lane": "l", "token_count": 3})
        frames = [await one.expect(), await two.expect()]
        assert frames[0] == frames[1]
        item = frames[0].pop("data")
        assert frames[0] == {"type": "message"}
        assert datetime.fromisoformat(item.pop("timestamp")).utcoffset() == timedelta(0)
        assert len(item.pop("cursor")) == 32
        assert item == {
            "channel_id": "general",
            "author": "bob",
            "content": "hello",
            "lane": "l",
            "provider": None,
            "token_count": 3,
            "id": "general:1",
            "sequence": 1,
            "revision": 0,
            "complete": True,
            "edited_at": None,
            "erased_at": None,
        }
        await elsewhere.send({"type": "message", "content": "mine"})
        assert (await elsewhere.expect())["data"]["content"] == "mine"
        for opened in (one, two, elsewhere):
            await opened.close()


async def test_message_without_author_is_from_unknown() -> None:
    async with plain_server() as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "message", "content": "a"}, {"type": "message", "content": "b", "author": None})
        assert [(await opened.expect())["data"]["author"] for _ in range(2)] == ["unknown", "unknown"]
        await opened.close()


async def test_messages_of_one_socket_are_posted_in_order() -> None:
    async with plain_server() as (_, port):
        opened = await open_socket(port)
        await opened.send(*({"type": "message", "content": str(number)} for number in range(200)))
        assert [(await opened.expect())["data"]["content"] for _ in range(200)] == [str(n) for n in range(200)]
        await opened.close()


MALFORMED = {
    "empty": "",
    "not-json": "hello",
    "array": "[]",
    "number": "1",
    "null": "null",
    "string": '"message"',
    "binary": b"\x00\xff",
    "deep": "[" * 10_000 + "]" * 10_000,
    "deep-object": '{"a":' * 10_000 + "1" + "}" * 10_000,
    "no-content": '{"type":"message"}',
    "null-content": '{"type":"message","content":null}',
    "empty-content": '{"type":"message","content":""}',
    "number-content": '{"type":"message","content":1}',
    "array-content": '{"type":"message","content":[]}',
    "surrogate-content": '{"type":"message","content":"\\ud800"}',
    "nul-content": '{"type":"message","content":"a\\u0000"}',
    "long-content": json.dumps({"type": "message", "content": "x" * 65_537}),
    "empty-author": '{"type":"message","content":"a","author":""}',
    "number-author": '{"type":"message","content":"a","author":1}',
    "object-lane": '{"type":"message","content":"a","lane":{}}',
    "long-provider": json.dumps({"type": "message", "content": "a", "provider": "p" * 65}),
    "text-token-count": '{"type":"message","content":"a","token_count":"1"}',
    "true-token-count": '{"type":"message","content":"a","token_count":true}',
    "infinite-token-count": '{"type":"message","content":"a","token_count":1e999}',
    "negative-token-count": '{"type":"message","content":"a","token_count":-1}',
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
async def test_frame_malformed_gets_an_error_frame_and_the_socket_stays(text: str | bytes) -> None:
    async with plain_server() as (chat, port):
        opened = await open_socket(port)
        await opened.send(text, {"type": "message", "content": "after"})
        error = await opened.expect()
        assert sorted(error) == ["code", "message", "type"]
        assert (error["type"], error["code"]) == ("error", "BAD_USER_INPUT")
        assert (await opened.expect())["data"]["sequence"] == 1
        assert await chat.log.last_sequence("general") == 1
        await opened.close()


async def test_error_names_the_field_as_this_shim_calls_it() -> None:
    async with plain_server() as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "message", "content": "a", "token_count": -1})
        assert (await opened.expect())["message"].startswith("token_count must be")
        await opened.close()


@pytest.mark.parametrize("text", ['{"type":"typing"}', "{}", '{"type":1}', '{"type":["message"]}', '{"content":"a"}'])
async def test_frame_of_unknown_type_is_ignored(text: str) -> None:
    async with plain_server() as (chat, port):
        opened = await open_socket(port)
        await opened.send(text, {"type": "message", "content": "after"})
        assert (await opened.expect())["data"]["content"] == "after"
        assert await chat.log.last_sequence("general") == 1
        await opened.close()


@pytest.mark.parametrize("text", ['{"type":"ping"}', '{"type":"ping","payload":{"a":1}}'])
async def test_ping_is_answered_in_its_turn_and_posts_nothing(text: str) -> None:
    async with plain_server() as (chat, port):
        opened = await open_socket(port)
        await opened.send(text, {"type": "message"}, text)
        assert await opened.expect() == {"type": "pong"}
        assert (await opened.expect())["type"] == "error"
        assert await opened.expect() == {"type": "pong"}
        assert await chat.log.last_sequence("general") == 0
        await opened.close()


@pytest.mark.parametrize("channel", ["", "a b", "a/b", "x" * 129, "a\n", "a\0"])
async def test_channel_id_bad_gets_an_error_frame_then_1008(channel: str) -> None:
    async with plain_server() as (_, port):
        opened = await open_socket(port, channel)
        error = await opened.expect()
        assert error["code"] == "BAD_USER_INPUT"
        assert error["message"].startswith("channel_id ")
        assert (await opened.expect_close()).code == 1008


@pytest.mark.parametrize("after", ["", "x", "AAAA", "A" * 32, "%00", "%FF"])
async def test_cursor_bad_gets_an_error_frame_then_1008(after: str) -> None:
    async with plain_server() as (_, port):
        opened = await open_socket(port, query=f"?after={after}")
        assert (await opened.expect())["code"] == "CURSOR_INVALID"
        assert (await opened.expect_close()).code == 1008


async def test_cursor_past_the_head_or_of_another_channel_gets_an_error_frame_then_1008() -> None:
    async with plain_server() as (chat, port):
        for cursor in (encode_cursor(chat.log.epoch, "general", 9), encode_cursor(chat.log.epoch, "other", 0)):
            opened = await open_socket(port, query=f"?after={cursor}")
            assert (await opened.expect())["code"] == "CURSOR_INVALID"
            assert (await opened.expect_close()).code == 1008


@pytest.mark.parametrize("ws", [WebSocketProtocol, "websockets-sansio"], ids=["direct", "asgi-send"])
async def test_after_resumes_and_goes_live_without_a_gap(ws: Any) -> None:
    async with plain_server(ws) as (chat, port):
        messages = await fill(chat, "general", 30)
        opened = await open_socket(port, query=f"?after={messages[9].cursor}")
        await fill(chat, "general", 10)
        assert [(await opened.expect())["data"]["sequence"] for _ in range(30)] == list(range(11, 41))
        await opened.close()


async def test_without_after_nothing_older_is_sent() -> None:
    async with plain_server() as (chat, port):
        await fill(chat, "general", 3)
        opened = await open_socket(port)
        await opened.send({"type": "message", "content": "new"})
        assert (await opened.expect())["data"]["sequence"] == 4
        await opened.close()


async def test_sockets_of_a_channel_share_one_cohort() -> None:
    async with plain_server() as (chat, port):
        sockets = [await open_socket(port) for _ in range(5)]
        for opened in sockets:
            await opened.send({"type": "nothing"}, {"type": "message"})
            assert (await opened.expect())["type"] == "error"
        assert (chat.hub.subscribers, chat.hub.cohorts) == (5, 1)
        for opened in sockets:
            await opened.close()


async def test_log_failing_is_an_error_frame_and_the_socket_stays() -> None:
    async with plain_server() as (chat, port):
        opened = await open_socket(port)
        await opened.send({"type": "message", "content": "first"})
        await opened.expect()
        log = chat.log
        assert isinstance(log, MemoryLog)
        log.failing = True
        await opened.send({"type": "message", "content": "a"})
        assert (await opened.expect())["code"] == "UNAVAILABLE"
        log.failing = False
        await opened.send({"type": "message", "content": "b"})
        assert (await opened.expect())["data"]["content"] == "b"
        await opened.close()


async def test_log_failing_on_subscribe_closes_1013() -> None:
    async with plain_server() as (chat, port):
        log = chat.log
        assert isinstance(log, MemoryLog)
        log.failing = True
        opened = await open_socket(port)
        assert (await opened.expect())["code"] == "UNAVAILABLE"
        assert (await opened.expect_close()).code == 1013


async def test_unexpected_failure_of_a_post_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def explode(*_: Any, **__: Any) -> Any:
        raise KeyError("secret path")

    monkeypatch.setattr("transports.shims.plain_websocket.post_message", explode)
    async with plain_server() as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "message", "content": "a"})
        assert await opened.expect() == {
            "type": "error",
            "code": "INTERNAL_SERVER_ERROR",
            "message": "Internal server error.",
        }
        await opened.close()


async def test_unexpected_failure_of_the_subscription_is_masked_and_closes_1011() -> None:
    def explode(*_: Any) -> Any:
        raise KeyError("secret path")

    async with plain_server(make_sink=explode) as (_, port):
        opened = await open_socket(port)
        error = await opened.expect()
        assert (error["code"], error["message"]) == ("INTERNAL_SERVER_ERROR", "Internal server error.")
        assert await opened.expect_close() == Closed(1011, "")


async def test_subscription_ended_by_the_server_tells_why_and_closes() -> None:
    async with plain_server() as (chat, port):
        opened = await open_socket(port)
        await opened.send({"type": "message", "content": "a"})
        await opened.expect()
        (cohort,) = chat.hub.channels["general"].cohorts.values()
        (subscriber,) = cohort.members
        subscriber.end(CursorExpired("cursor"))
        error = await opened.expect()
        assert (error["code"], error["resumeCursor"]) == ("CURSOR_EXPIRED", "cursor")
        assert (await opened.expect_close()).code == 1008


# -- who may connect -----------------------------------------------------------------------------------------------


async def test_origin_not_allowed_is_refused_with_403() -> None:
    def allow(scope: Scope) -> bool:
        return (b"origin", b"https://evil.example") not in scope["headers"]

    async with plain_server(allow=allow) as (_, port):
        with pytest.raises(Refused) as refused:
            await RawSocket.open(port, "/api/ws/general", headers={"Origin": "https://evil.example"})
        assert refused.value.status == 403
        await (await open_socket(port)).close()


@pytest.mark.parametrize("kind", [Unauthenticated, Forbidden])
async def test_client_not_welcome_is_told_and_closed_with_4403(kind: type[RaqcoonError]) -> None:
    error = kind()

    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        assert connection_params is None
        raise kind()

    async with plain_server(authenticate=authenticate) as (chat, port):
        opened = await open_socket(port)
        assert await opened.expect() == {"type": "error", "code": error.code, "message": str(error)}
        assert (await opened.expect_close()).code == 4403
        assert chat.hub.subscribers == 0


async def test_client_whose_token_cannot_be_verified_now_is_refused_with_503() -> None:
    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        raise Unavailable

    async with plain_server(authenticate=authenticate) as (_, port):
        with pytest.raises(Refused) as refused:
            await open_socket(port)
        assert refused.value.status == 503


async def test_channel_not_permitted_gets_forbidden_then_1008() -> None:
    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        return viewer_of_patterns(("open",), "bob")

    async with plain_server(authenticate=authenticate) as (_, port):
        opened = await open_socket(port, "secret")
        assert (await opened.expect())["code"] == "FORBIDDEN"
        assert (await opened.expect_close()).code == 1008
        permitted = await open_socket(port, "open")
        await permitted.send({"type": "message", "author": "eve", "content": "a"})
        assert (await permitted.expect())["code"] == "FORBIDDEN"
        await permitted.close()


async def test_poster_who_may_not_read_posts_blindly_and_reader_who_may_not_post_is_told() -> None:
    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        return Viewer("bob", read=ChannelPatterns(("news",)), post=ChannelPatterns(("inbox",)), manage=NO_CHANNEL)

    async with plain_server(authenticate=authenticate) as (chat, port):
        poster = await open_socket(port, "inbox")
        await poster.send({"type": "message", "author": "bob", "content": "a"})
        await poster.send({"type": "message", "author": "eve", "content": "b"})
        assert (await poster.expect())["code"] == "FORBIDDEN", "its own post must not come back before"
        assert await chat.log.last_sequence("inbox") == 1
        await poster.close()
        with_cursor = await open_socket(port, "inbox", f"?after={encode_cursor(chat.log.epoch, 'inbox', 0)}")
        assert (await with_cursor.expect())["code"] == "FORBIDDEN"
        assert (await with_cursor.expect_close()).code == 1008
        reader = await open_socket(port, "news")
        await reader.send({"type": "message", "author": "bob", "content": "a"})
        assert (await reader.expect())["code"] == "FORBIDDEN"
        await fill(chat, "news", 1)
        assert (await reader.expect())["data"]["content"] == "1"
        await reader.close()
        neither = await open_socket(port, "in box")
        assert (await neither.expect())["code"] == "BAD_USER_INPUT"
        assert (await neither.expect_close()).code == 1008


async def test_token_that_ends_is_told_and_closes_4403() -> None:
    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        return Viewer(expires_at=time.time() + 0.2)

    async with plain_server(authenticate=authenticate) as (_, port):
        opened = await open_socket(port)
        assert (await opened.expect())["code"] == "UNAUTHENTICATED"
        assert (await opened.expect_close()).code == 4403


async def test_connections_past_the_limits_are_refused() -> None:
    connections = Connections(max_connections=3, max_per_address=2)
    async with plain_server(connections=connections) as (_, port):
        sockets = [await open_socket(port) for _ in range(2)]
        assert (len(connections), connections.at_address("127.0.0.1")) == (2, 2)
        with pytest.raises(Refused) as refused:
            await open_socket(port)
        assert refused.value.status == 429
        assert "retry-after: 1" in refused.value.head.lower()
        for opened in sockets:
            await opened.close()


async def test_close_of_the_registry_reaches_the_client() -> None:
    connections = Connections()
    async with plain_server(connections=connections) as (_, port):
        opened = await open_socket(port)
        for connection in connections:
            connection.close(1012, "Service restart")
            connection.close(1012, "Service restart")
        assert await opened.expect_close() == Closed(1012, "Service restart")


async def test_client_that_resets_while_messages_flow_leaves_nothing() -> None:
    async with plain_server() as (chat, port):
        sockets = [await open_socket(port) for _ in range(5)]
        stays = await open_socket(port)
        await stays.send({"type": "message", "content": "first"})
        await stays.expect()
        for number, opened in enumerate(sockets):
            await asyncio.gather(*(post(chat, f"{number}") for _ in range(20)))
            opened.reset()
        assert [(await stays.expect())["data"]["sequence"] for _ in range(100)] == list(range(2, 102))
        await stays.close()
