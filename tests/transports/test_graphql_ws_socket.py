"""graphql-transport-ws over a raw socket against a real server: malformed input first, then every rule."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from starlette.types import Scope

from errors import CursorExpired, Forbidden, Unauthenticated, Unavailable
from messages import ANYONE, Viewer
from resolvers.chat import Chat
from resolvers.post_message import post_message
from schema.contract import schema
from schema.operations import Operations
from tests.fakes import MemoryLog, fill, memory_chat
from tests.transports.graphql_ws_frames import MALFORMED
from tests.transports.live_server import Closed, RawSocket, Refused, frame, serve, until
from transports.connections import Connections
from transports.graphql_ws.endpoint import GraphQLWebSocket
from transports.uvicorn_protocol import WebSocketProtocol

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
    """A server; once it is left, no connection, subscriber or task may be left."""
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
    """Returns once the server has handled every frame sent so far."""
    await opened.send({"type": "ping"})
    assert await opened.expect() == {"type": "pong"}


async def post(chat: Chat, *contents: str, channel: str = "general") -> None:
    for content in contents:
        await post_message(chat, ANYONE, channel_id=channel, author="ann", content=content)


# -- malformed -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("acknowledged", [False, True], ids=["before-ack", "after-ack"])
async def test_text_frame_malformed_closes_4400(text: str, acknowledged: bool) -> None:
    async with graphql_server() as (_, port):
        opened = await (open_acknowledged if acknowledged else open_socket)(port)
        await opened.send(text)
        closed = await opened.expect_close()
        assert closed.code == 4400
        assert closed.reason
        assert len(closed.reason.encode()) <= 123


async def test_frame_malformed_beside_a_live_subscription_ends_it() -> None:
    async with graphql_server() as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("1"), "[]", {"type": "ping"})
        assert (await opened.expect_close()).code == 4400
        assert chat.hub.subscribers == 0


async def test_binary_frame_closes_4400() -> None:
    async with graphql_server() as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(b'{"type":"ping"}')
        assert (await opened.expect_close()).code == 4400


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"\xff\xfe", opcode=1), 1007),
        (frame(b"", opcode=5), 1002),
        (b"\xf1\x80\0\0\0\0", 1002),
        (b"\x81\x02{}", 1002),
        (frame(b"more", opcode=0), 1002),
        (frame("x" * 2_000_000), 1009),
    ],
    ids=["not-utf-8", "reserved-opcode", "reserved-bits", "not-masked", "stray-continuation", "too-long"],
)
async def test_bytes_that_are_no_websocket_frame_close_with_a_code(data: bytes, code: int) -> None:
    async with graphql_server() as (_, port):
        opened = await open_acknowledged(port)
        opened.writer.write(data)
        closed = await opened.receive()
        assert isinstance(closed, Closed)
        assert closed.code == code
        opened.writer.close()


@pytest.mark.parametrize("subprotocol", [None, "graphql-ws", "graphql-transport-ws2", "GRAPHQL-TRANSPORT-WS", "a, b"])
async def test_subprotocol_other_closes_4406(subprotocol: str | None) -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port, subprotocol)
        assert "sec-websocket-protocol" not in opened.head.lower()
        assert await opened.expect_close() == Closed(4406, "Subprotocol not acceptable")


async def test_subprotocol_among_others_is_chosen() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port, "graphql-ws, graphql-transport-ws")
        assert "sec-websocket-protocol: graphql-transport-ws\r\n" in opened.head.lower()
        await opened.close()


# -- initialisation ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("member", [{}, {"payload": None}, {"payload": {}}, {"payload": {"token": "t"}}])
async def test_init_is_acknowledged_and_its_payload_handed_on(member: dict[str, Any]) -> None:
    seen: list[Any] = []

    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        seen.append((connection_params, dict(scope["headers"])[b"x-test"]))
        return ANYONE

    async with graphql_server(authenticate=authenticate) as (_, port):
        opened = await open_socket(port, headers={"X-Test": "yes"})
        await opened.send({"type": "connection_init", **member})
        assert await opened.expect() == ACK
        await opened.close()
    assert seen == [(member.get("payload"), b"yes")]


async def test_init_missing_closes_4408_however_much_is_pinged() -> None:
    async with graphql_server(init_timeout_seconds=0.3) as (_, port):
        opened = await open_socket(port)
        started = time.monotonic()
        closed: Any = None
        while not isinstance(closed, Closed):
            await opened.send({"type": "ping"})
            closed = await opened.receive()
            await asyncio.sleep(0.02)
        assert closed == Closed(4408, "Connection initialisation timeout")
        assert 0.25 < time.monotonic() - started < 1
        opened.writer.close()


async def test_init_that_takes_too_long_to_authenticate_closes_4408() -> None:
    cancelled = asyncio.Event()

    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            cancelled.set()

    async with graphql_server(init_timeout_seconds=0.1, authenticate=authenticate) as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "connection_init"})
        assert (await opened.expect_close()).code == 4408
        assert cancelled.is_set()


async def test_init_timeout_does_not_touch_an_acknowledged_socket() -> None:
    async with graphql_server(init_timeout_seconds=0.1) as (_, port):
        opened = await open_acknowledged(port)
        await asyncio.sleep(0.3)
        await settle(opened)
        await opened.close()


async def test_init_timeout_is_three_seconds_by_default() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port)
        started = time.monotonic()
        assert (await opened.expect_close()).code == 4408
        assert 2.9 < time.monotonic() - started < 4


async def test_init_twice_closes_4429() -> None:
    async with graphql_server() as (_, port):
        opened = await open_acknowledged(port)
        await opened.send({"type": "connection_init"})
        assert await opened.expect_close() == Closed(4429, "Too many initialisation requests")


async def test_init_twice_in_one_packet_closes_4429() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "connection_init"}, {"type": "connection_init"})
        assert await opened.expect() == ACK
        assert (await opened.expect_close()).code == 4429


async def test_subscribe_before_the_ack_closes_4401() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port)
        await opened.send(subscription("1"))
        assert await opened.expect_close() == Closed(4401, "Unauthorized")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Unauthenticated("secret"), Closed(4403, "Forbidden")),
        (Forbidden("secret"), Closed(4403, "Forbidden")),
        (Unavailable("secret"), Closed(1013, "Try again later")),
        (KeyError("secret"), Closed(4500, "Internal server error")),
        (TimeoutError("secret"), Closed(4500, "Internal server error")),
    ],
)
async def test_client_not_welcome_is_closed_without_an_ack(error: Exception, expected: Closed) -> None:
    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        raise error

    async with graphql_server(authenticate=authenticate) as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "connection_init"})
        assert await opened.expect_close() == expected


async def test_origin_not_allowed_is_refused_with_403() -> None:
    def allow(scope: Scope) -> bool:
        return (b"origin", b"https://evil.example") not in scope["headers"]

    async with graphql_server(allow=allow) as (_, port):
        with pytest.raises(Refused) as refused:
            await open_socket(port, headers={"Origin": "https://evil.example"})
        assert refused.value.status == 403
        await (await open_socket(port)).close()


async def test_connections_past_the_limits_are_refused_until_one_leaves() -> None:
    connections = Connections(max_connections=2)
    async with graphql_server(connections=connections) as (_, port):
        first, second = await open_acknowledged(port), await open_socket(port)
        with pytest.raises(Refused) as refused:
            await open_socket(port)
        assert refused.value.status == 503
        await first.close()
        await until(lambda: len(connections) == 1)
        await (await open_acknowledged(port)).close()
        await second.close()


# -- ping and pong -------------------------------------------------------------------------------------------------


async def test_ping_is_answered_before_and_after_the_ack_with_its_payload() -> None:
    async with graphql_server() as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "ping"}, {"type": "ping", "payload": {"a": ["é"]}}, {"type": "pong"})
        assert await opened.expect() == {"type": "pong"}
        assert await opened.expect() == {"type": "pong", "payload": {"a": ["é"]}}
        await opened.send({"type": "connection_init"}, {"type": "pong", "payload": {}}, {"type": "ping", "payload": {}})
        assert await opened.expect() == ACK
        assert await opened.expect() == {"type": "pong", "payload": {}}
        await opened.close()


# -- queries and mutations -----------------------------------------------------------------------------------------


async def test_query_gets_next_then_complete_and_its_id_is_free() -> None:
    async with graphql_server() as (chat, port):
        await post(chat, "a", "b")
        opened = await open_acknowledged(port)
        for _ in range(2):
            await opened.send(operation("q", HEAD))
            data = {"channel": {"lastSequence": 2}}
            assert await opened.expect() == {"id": "q", "type": "next", "payload": {"data": data}}
            assert await opened.expect() == complete("q")
        await opened.close()


async def test_mutation_posts_and_its_message_is_delivered() -> None:
    async with graphql_server() as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"), operation("m", POST, content="hello"))
        received = [await opened.expect() for _ in range(3)]
        assert next_message("s", 1, "hello") in received
        assert [f["type"] for f in received if f["id"] == "m"] == ["next", "complete"]
        await opened.close()


async def test_mutation_refused_gets_next_with_errors_then_complete() -> None:
    async with graphql_server() as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(operation("m", POST, content=""))
        result = await opened.expect()
        assert result["type"] == "next"
        assert result["payload"]["errors"][0]["extensions"]["code"] == "BAD_USER_INPUT"
        assert await opened.expect() == complete("m")
        await opened.close()


async def test_lone_surrogate_in_a_variable_is_bad_input_not_a_bad_frame() -> None:
    async with graphql_server() as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(json.dumps(operation("m", POST, content="a\ud800")))
        result = await opened.expect()
        errors = result["payload"]["errors"] if result["type"] == "next" else result["payload"]
        assert errors[0]["extensions"]["code"] == "BAD_USER_INPUT"
        assert await chat.log.last_sequence("general") == 0
        await settle_after(opened, "m")
        await opened.close()


async def settle_after(opened: RawSocket, id_: str) -> None:
    """Like `settle`, passing over the end of one operation."""
    await opened.send({"type": "ping"})
    while (received := await opened.expect()) != {"type": "pong"}:
        assert received == complete(id_)


class Gated(Operations):
    """Operations whose executions, and then whose subscribing, wait at a gate."""

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
    async def execute(self, *arguments: Any, **keywords: Any) -> Any:
        await self.pass_gate()
        return await super().execute(*arguments, **keywords)


class GatedSubscribing(Gated):
    async def subscribe(self, *arguments: Any, **keywords: Any) -> Any:
        await self.pass_gate()
        return await super().subscribe(*arguments, **keywords)


async def test_query_that_takes_long_does_not_hold_up_the_next_frame() -> None:
    async with graphql_server(operations=GatedExecution) as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(operation("q", HEAD))
        await settle(opened)
        GatedExecution.gate.set()
        assert [(await opened.expect())["type"] for _ in range(2)] == ["next", "complete"]
        await opened.close()


async def test_queries_running_at_once_are_bounded_and_all_answered() -> None:
    async with graphql_server(operations=GatedExecution, operations_max=3) as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(*(operation(str(number), HEAD) for number in range(20)))
        await until(lambda: GatedExecution.waiting == 3)
        await asyncio.sleep(0.05)
        assert GatedExecution.waiting == 3
        GatedExecution.gate.set()
        received = [await opened.expect() for _ in range(40)]
        assert GatedExecution.most_waiting <= 3
        assert sorted(f["id"] for f in received if f["type"] == "complete") == sorted(str(n) for n in range(20))
        await opened.close()


async def test_query_completed_by_the_client_is_cancelled_and_answered_by_nothing() -> None:
    async with graphql_server(operations=GatedExecution) as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(operation("q", HEAD))
        await settle(opened)
        await opened.send(complete("q"))
        await settle(opened)
        assert GatedExecution.waiting == 0
        GatedExecution.gate.set()
        await opened.send(operation("q", HEAD))
        assert [(await opened.expect())["type"] for _ in range(2)] == ["next", "complete"]
        await settle(opened)
        await opened.close()


async def test_id_of_a_running_query_is_taken() -> None:
    async with graphql_server(operations=GatedExecution) as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(operation("q", HEAD), operation("q", HEAD))
        assert await opened.expect_close() == Closed(4409, "Subscriber for q already exists")


async def test_disconnect_while_queries_run_cancels_them() -> None:
    async with graphql_server(operations=GatedExecution) as (_, port):
        for end in ("close", "reset"):
            opened = await open_acknowledged(port)
            await opened.send(*(operation(str(number), HEAD) for number in range(5)))
            await until(lambda: GatedExecution.waiting == 5)
            await opened.close() if end == "close" else opened.reset()
            await until(lambda: GatedExecution.waiting == 0)


async def test_disconnect_while_a_subscription_is_being_set_up_leaves_nothing() -> None:
    connections = Connections()
    async with graphql_server(operations=GatedSubscribing, connections=connections) as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"))
        await until(lambda: GatedSubscribing.waiting == 1)
        opened.reset()
        await asyncio.sleep(0.05)
        GatedSubscribing.gate.set()


async def test_close_by_the_server_while_a_subscription_is_being_set_up_leaves_nothing() -> None:
    connections = Connections()
    async with graphql_server(operations=GatedSubscribing, connections=connections) as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"), subscription("t"))
        await until(lambda: GatedSubscribing.waiting == 1)
        for connection in connections:
            connection.close(1012, "Service restart")
        assert await opened.receive() == Closed(1012, "Service restart")
        GatedSubscribing.gate.set()
        assert await opened.reader.read() == b""
        opened.writer.close()


# -- documents that cannot run -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"query": ""}, "BAD_USER_INPUT"),
        (
            {"query": "", "extensions": {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}},
            "PERSISTED_QUERY_NOT_FOUND",
        ),
        ({"query": "#"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "{"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": "{" * 10_000}, None),
        ({"query": 'subscription { messages(channelId: "a") { nothing } }'}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "{ nothing }"}, "GRAPHQL_VALIDATION_FAILED"),
        ({"query": "query A { __typename }", "operationName": "B"}, None),
        ({"query": "query A { __typename } query B { __typename }"}, None),
        ({"query": "fragment F on Message { id }"}, None),
        ({"query": "{ \ud800 }"}, "GRAPHQL_PARSE_FAILED"),
        ({"query": '{ message(id: "\ud800") { id } }', "operationName": "\udfff"}, None),
        ({"query": SUBSCRIBE, "variables": {"channel": "\ud800"}}, "BAD_USER_INPUT"),
        ({"query": SUBSCRIBE, "variables": {"channel": "a", "after": "\ud800"}}, "CURSOR_INVALID"),
        ({"query": SUBSCRIBE, "variables": {"channel": nested(900)}}, None),
        ({"query": SUBSCRIBE, "variables": {"channel": "a", "unused": nested(900), "after": "x"}}, "CURSOR_INVALID"),
        ({"query": SUBSCRIBE, "variables": {}}, "BAD_USER_INPUT"),
        ({"query": SUBSCRIBE, "variables": {"channel": "a b"}}, "BAD_USER_INPUT"),
        ({"query": SUBSCRIBE, "variables": {"channel": ["a"]}}, "BAD_USER_INPUT"),
        ({"query": SUBSCRIBE, "variables": {"channel": "a", "after": "nonsense"}}, "CURSOR_INVALID"),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
async def test_operation_that_cannot_start_gets_one_error_frame_and_the_socket_lives(
    payload: dict[str, Any], code: str | None
) -> None:
    async with graphql_server() as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"), {"id": "bad", "type": "subscribe", "payload": payload})
        error = await opened.expect()
        assert (error["id"], error["type"]) == ("bad", "error")
        assert error["payload"]
        for one in error["payload"]:
            assert one["message"]
            assert one["extensions"]["code"]
        if code is not None:
            assert error["payload"][0]["extensions"]["code"] == code
        await settle(opened)
        await post(chat, "still here")
        assert await opened.expect() == next_message("s", 1, "still here")
        await opened.send(subscription("bad"))  # The id is free again.
        await settle(opened)
        await opened.close()


class Failing(Operations):
    async def subscribe(self, *arguments: Any, **keywords: Any) -> Any:
        raise KeyError("secret path")

    async def execute(self, *arguments: Any, **keywords: Any) -> Any:
        raise KeyError("secret path")


async def test_unexpected_failure_of_an_operation_is_masked_and_the_socket_lives() -> None:
    async with graphql_server(operations=Failing) as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"), operation("q", HEAD))
        for _ in range(2):
            error = await opened.expect()
            assert error["type"] == "error"
            assert error["payload"][0]["extensions"]["code"] == "INTERNAL_SERVER_ERROR"
            assert "secret" not in json.dumps(error)
        await settle(opened)
        await opened.close()


async def test_unexpected_failure_of_the_socket_closes_4500_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> Any:
        raise KeyError("secret path")

    monkeypatch.setattr("transports.graphql_ws.protocol.parse_frame", explode)
    async with graphql_server() as (_, port):
        opened = await open_socket(port)
        await opened.send("{}")
        assert await opened.expect_close() == Closed(4500, "Internal server error")


async def test_log_that_fails_gets_an_error_frame_and_the_socket_lives() -> None:
    async with graphql_server() as (chat, port):
        opened = await open_acknowledged(port)
        log = chat.log
        assert isinstance(log, MemoryLog)
        log.failing = True
        await opened.send(subscription("s"))
        error = await opened.expect()
        assert error["payload"][0]["extensions"]["code"] == "UNAVAILABLE"
        log.failing = False
        await opened.send(subscription("s"))
        await settle(opened)
        await opened.close()


# -- subscriptions -------------------------------------------------------------------------------------------------


@both_servers
async def test_subscription_gets_what_follows_its_cursor_then_what_is_posted(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        messages = await fill(chat, "general", 20)
        opened = await open_acknowledged(port)
        await opened.send(subscription("s", after=messages[4].cursor))
        await post(chat, "new")
        expected = [next_message("s", number, str(number)) for number in range(6, 21)] + [next_message("s", 21, "new")]
        assert [await opened.expect() for _ in range(16)] == expected
        await opened.close()


@both_servers
async def test_pong_after_subscribe_means_that_the_subscription_stands(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        opened = await open_acknowledged(port)
        for number in range(1, 21):
            await opened.send(subscription(str(number)))
            await settle(opened)
            await post(chat, "x")
            received = [await opened.expect() for _ in range(number)]
            assert received == [next_message(str(n), number, "x") for n in range(1, number + 1)]
        await opened.close()


async def test_subscribe_while_subscribing_takes_long_waits_with_the_next_frame() -> None:
    async with graphql_server(operations=GatedSubscribing) as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"), {"type": "ping"})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await opened.receive()
        GatedSubscribing.gate.set()
        assert await opened.expect() == {"type": "pong"}
        await opened.close()


@both_servers
async def test_complete_from_the_client_stops_at_once_and_says_nothing(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"))
        await settle(opened)
        assert chat.hub.subscribers == 1
        await opened.send(complete("s"), complete("s"), complete("never"))
        await settle(opened)
        assert chat.hub.subscribers == 0
        await post(chat, "nobody hears")
        await settle(opened)
        await opened.close()


@both_servers
async def test_complete_right_behind_subscribe_leaves_nothing(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        messages = await fill(chat, "general", 5)
        opened = await open_acknowledged(port)
        await opened.send(subscription("s", after=messages[0].cursor), complete("s"))
        await settle_past_next(opened)
        assert chat.hub.subscribers == 0
        await post(chat, "nobody hears")
        await settle(opened)
        await opened.close()


async def settle_past_next(opened: RawSocket) -> None:
    """Like `settle`, passing over `next` frames that were under way."""
    await opened.send({"type": "ping"})
    while (received := await opened.expect()) != {"type": "pong"}:
        assert received["type"] == "next"


@both_servers
async def test_id_reused_in_the_same_packet_is_the_new_subscription_only(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s", "old"), complete("s"), subscription("s", "new"))
        await settle(opened)
        await post(chat, "old one", channel="old")
        await post(chat, "new one", channel="new")
        assert await opened.expect() == next_message("s", 1, "new one")
        await settle(opened)
        assert chat.hub.subscribers == 1
        await opened.close()


@pytest.mark.parametrize("id_", ["s", "__proto__", "é" * 300])
async def test_id_in_use_closes_4409_and_ends_every_subscription(id_: str) -> None:
    async with graphql_server() as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("other"), subscription(id_), subscription(id_))
        closed = await opened.expect_close()
        assert closed.code == 4409
        assert closed.reason == f"Subscriber for {id_} already exists".encode()[:123].decode(errors="ignore")
        assert chat.hub.subscribers == 0


@both_servers
async def test_twenty_subscriptions_on_one_socket_stay_apart(ws: Any) -> None:
    ids = [f"id-{'x' * number}" for number in range(19)] + ["__proto__"]
    async with graphql_server(ws) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(*(subscription(id_, f"channel-{number % 5}") for number, id_ in enumerate(ids)))
        await settle(opened)
        await asyncio.gather(*(post(chat, *map(str, range(50)), channel=f"channel-{n}") for n in range(5)))
        received: dict[str, list[Any]] = {id_: [] for id_ in ids}
        for _ in range(20 * 50):
            frame_ = await opened.expect()
            received[frame_["id"]].append(frame_)
        for id_ in ids:
            assert received[id_] == [next_message(id_, n + 1, str(n)) for n in range(50)]
        await opened.close()


async def test_subscription_past_the_limit_gets_an_error_frame_and_the_socket_lives() -> None:
    async with graphql_server(subscriptions_max=3) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(*(subscription(str(number)) for number in range(4)))
        error = await opened.expect()
        assert (error["id"], error["type"]) == ("3", "error")
        assert error["payload"][0]["extensions"]["code"] == "BAD_USER_INPUT"
        assert "3" in error["payload"][0]["message"]
        await opened.send(complete("0"), subscription("4"), operation("q", HEAD))
        assert [(await opened.expect())["id"] for _ in range(2)] == ["q", "q"]
        assert chat.hub.subscribers == 3
        await opened.close()


@both_servers
@pytest.mark.parametrize("error", [CursorExpired("cursor"), None], ids=["error", "complete"])
async def test_subscription_ended_by_the_server_says_so_after_its_last_message(ws: Any, error: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("s"))
        await settle(opened)
        await post(chat, "last")
        assert await opened.expect() == next_message("s", 1, "last")
        (cohort,) = chat.hub.channels["general"].cohorts.values()
        (subscriber,) = cohort.members
        subscriber.end(error)
        end = await opened.expect()
        if error is None:
            assert end == complete("s")
        else:
            assert (end["id"], end["type"]) == ("s", "error")
            assert end["payload"][0]["extensions"] == {"code": "CURSOR_EXPIRED", "resumeCursor": "cursor"}
        await opened.send(subscription("s"))
        await settle(opened)
        await opened.close()


async def test_token_that_ends_ends_every_subscription_then_the_socket() -> None:
    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        return Viewer(expires_at=time.time() + 0.3)

    async with graphql_server(authenticate=authenticate) as (chat, port):
        opened = await open_acknowledged(port)
        await opened.send(subscription("a"), subscription("b"))
        for id_ in "ab":
            error = await opened.expect()
            assert (error["id"], error["type"]) == (id_, "error")
            assert error["payload"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert chat.hub.subscribers == 0
        assert await opened.expect_close() == Closed(4403, "Forbidden")


async def test_token_that_has_ended_gets_no_ack() -> None:
    async def authenticate(connection_params: dict[str, Any] | None, scope: Scope) -> Viewer:
        return Viewer(expires_at=time.time() - 1)

    async with graphql_server(authenticate=authenticate) as (_, port):
        opened = await open_socket(port)
        await opened.send({"type": "connection_init"})
        assert await opened.expect_close() == Closed(4403, "Forbidden")


# -- how sockets end -----------------------------------------------------------------------------------------------


async def test_disconnect_in_whatever_state_leaves_nothing() -> None:
    async with graphql_server() as (chat, port):
        for how in ("close", "reset", "half-close"):
            for frames in (
                [],
                [{"type": "connection_init"}],
                [{"type": "connection_init"}, subscription("s")],
                [
                    {"type": "connection_init"},
                    subscription("s"),
                    operation("q", HEAD),
                    operation("m", POST, content="a"),
                ],
            ):
                opened = await open_socket(port)
                await opened.send(*frames)
                if how == "close":
                    await opened.close()
                elif how == "reset":
                    opened.reset()
                else:
                    opened.writer.write_eof()
                    while not isinstance(await opened.receive(), Closed):
                        pass
                    opened.writer.close()
        await until(lambda: chat.hub.subscribers == 0)


@both_servers
async def test_client_that_resets_while_messages_flow_leaves_nothing_and_others_go_on(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        stays = await open_acknowledged(port)
        await stays.send(subscription("s"))
        await settle(stays)
        sequence = 0
        for _ in range(10):
            goes = await open_acknowledged(port)
            await goes.send(*(subscription(str(number)) for number in range(10)))
            await settle(goes)
            sender = asyncio.gather(*(post(chat, "x") for _ in range(20)))
            await goes.send(operation("q", HEAD), operation("m", POST, content="x"))
            goes.reset()
            await sender
            await until(lambda: chat.hub.subscribers == 1)
            head = await chat.log.last_sequence("general")
            for expected in range(sequence + 1, head + 1):
                assert await stays.expect() == next_message("s", expected, "x")
            sequence = head
        await stays.close()


async def test_close_of_the_registry_reaches_every_client_with_its_code() -> None:
    connections = Connections()
    async with graphql_server(connections=connections) as (chat, port):
        sockets = [await open_acknowledged(port) for _ in range(10)]
        for opened in sockets:
            await opened.send(subscription("s"))
            await settle(opened)
        for connection in connections:
            connection.close(1012, "Service restart")
            connection.close(1000, "again")
        assert chat.hub.subscribers == 0
        for opened in sockets:
            assert await opened.expect_close() == Closed(1012, "Service restart")


async def test_server_that_drains_refuses_new_sockets_and_posts_but_not_reading() -> None:
    async with graphql_server() as (chat, port):
        opened = await open_acknowledged(port)
        chat.accepting = False
        with pytest.raises(Refused) as refused:
            await open_socket(port)
        assert refused.value.status == 503
        await opened.send(operation("m", POST, content="late"))
        result = await opened.expect()
        assert result["payload"]["errors"][0]["extensions"]["code"] == "UNAVAILABLE"
        assert await opened.expect() == complete("m")
        await opened.send(operation("q", HEAD))
        assert (await opened.expect())["payload"] == {"data": {"channel": {"lastSequence": 0}}}
        assert await opened.expect() == complete("q")
        await opened.close()


@both_servers
async def test_client_that_does_not_read_holds_up_itself_alone(ws: Any) -> None:
    async with graphql_server(ws) as (chat, port):
        slow, quick = await open_acknowledged(port), await open_acknowledged(port)
        for opened in (slow, quick):
            await opened.send(subscription("s"))
            await settle(opened)
        content = "x" * 60_000
        for number in range(1, 201):
            await post(chat, content)
            assert await quick.expect() == next_message("s", number, content)
        for number in range(1, 201):
            assert await slow.expect() == next_message("s", number, content)
        await slow.close()
        await quick.close()
