"""Queries, mutations and documents that cannot run, over a raw graphql-transport-ws socket."""

import asyncio
import json
from typing import Any

import pytest

from schema.operations import Operations
from tests.fakes import MemoryLog
from tests.transports.graphql_ws_client import (
    HEAD,
    POST,
    SUBSCRIBE,
    GatedExecution,
    GatedSubscribing,
    complete,
    graphql_server,
    nested,
    next_message,
    open_acknowledged,
    open_socket,
    operation,
    post,
    settle,
    subscription,
)
from tests.transports.live_server import Closed, RawSocket, until
from transports.gate.connections import Connections
from transports.gate.limits import Limits
from transports.serving.websocket_protocol import WebSocketProtocol

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


async def test_result_of_a_post_leaves_in_one_piece_with_what_completes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[bytes] = []
    write = WebSocketProtocol.write_frames

    def note(self: WebSocketProtocol, data: bytes) -> bool:
        pieces.append(data)
        return write(self, data)

    monkeypatch.setattr(WebSocketProtocol, "write_frames", note)
    async with graphql_server() as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(operation("m", POST, content="hello"))
        assert [(await opened.expect())["type"] for _ in range(2)] == ["next", "complete"]
        (piece,) = pieces
        assert piece.count(b'"id":"m"') == 2
        await opened.close()


async def test_result_for_a_socket_without_the_direct_way_leaves_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WebSocketProtocol, "write_frames", lambda self, data: False)
    async with graphql_server() as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(operation("m", POST, content="hello"))
        assert [(await opened.expect())["type"] for _ in range(2)] == ["next", "complete"]
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


async def test_query_that_takes_long_does_not_hold_up_the_next_frame() -> None:
    async with graphql_server(operations=GatedExecution) as (_, port):
        opened = await open_acknowledged(port)
        await opened.send(operation("q", HEAD))
        await settle(opened)
        GatedExecution.gate.set()
        assert [(await opened.expect())["type"] for _ in range(2)] == ["next", "complete"]
        await opened.close()


async def test_queries_running_at_once_are_bounded_and_all_answered() -> None:
    async with graphql_server(operations=GatedExecution, limits=Limits(operations=3)) as (_, port):
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
        ({"query": "{ \ud800 }"}, "BAD_USER_INPUT"),
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

    async def run(self, *arguments: Any, **keywords: Any) -> Any:
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

    monkeypatch.setattr("transports.graphql.protocol.parse_frame", explode)
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
