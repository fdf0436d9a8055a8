"""Every limit that is a setting reaches what keeps it, in a real server."""

import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.engine.client import SUBSCRIBE, Client, connect
from tests.engine.engine_server import EngineServer

StartServer = Callable[..., Any]


async def problems(server: EngineServer, query: str, variables: dict[str, Any] | None = None) -> list[str]:
    answer = await server.http.post("/graphql", json={"query": query, "variables": variables})
    return [error["message"] for error in answer.json().get("errors", [])]


async def test_limits_of_documents_and_variables_are_settings(start_server: StartServer) -> None:
    server: EngineServer = await start_server(
        max_document_characters=250,
        max_document_tokens=20,
        max_document_aliases=1,
        max_document_depth=2,
        max_document_repeats=4,
        max_variables_bytes=60,
        max_variables_values=20,
        max_json_nesting=8,
    )
    assert await problems(server, "{ a: __typename " + "__typename " * 3 + "}") == []
    for query, problem in (
        ("{ __typename }" + " " * 250, "250 characters"),
        ("{ " + "__typename " * 19 + "}", "20 tokens"),
        ("{ a: __typename b: __typename }", "1 aliases"),
        ("{ channels { edges { cursor } } }", "2 fields deep"),
        ("{ " + "__typename " * 5 + "}", "4 times"),
    ):
        [message] = await problems(server, query)
        assert problem in message
    [message] = await problems(server, "{ __typename }", {"a": "x" * 60})
    assert "60 bytes" in message
    [message] = await problems(server, "{ __typename }", {"a": [1] * 20})
    assert "20 values" in message
    deep = await server.http.post("/graphql", json={"query": "{ __typename }", "variables": {"a": [[[[[[[]]]]]]]}})
    assert deep.status_code == 400


async def test_limits_of_time_are_settings(start_server: StartServer) -> None:
    server: EngineServer = await start_server(
        header_timeout_seconds=0.5, request_timeout_seconds=1.5, init_timeout_seconds=0.5
    )
    silent = await Client.open(server.port, init=False)
    assert await silent.until_closed() == 4408
    silent.sock.close()
    for request, seconds in (
        (b"GET / HTTP/1.1\r\n", 0.5),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n", 1.5),
    ):
        client = Client(await connect(server.port))
        began = time.monotonic()
        await client.send_bytes(request)
        while await client._more():
            pass
        assert seconds <= time.monotonic() - began < seconds + 8
        client.sock.close()


async def test_limits_of_headers_connections_and_operations_are_settings(start_server: StartServer) -> None:
    server: EngineServer = await start_server(
        max_header_bytes=2_000,
        max_connections=4,
        max_subscriptions_per_connection=1,
        max_operations_per_connection=1,
        posts_per_second=1,
    )
    assert (await server.http.get("/", headers={"x": "y" * 3_000})).status_code == 431
    async with await Client.open(server.port) as client:
        await client.subscribe(id_="1")
        assert (await client.next_frame())["type"] == "pong"
        await client.send(client.operation("2", SUBSCRIBE, channel="general", after=None))
        error = await client.next_frame()
        assert error["type"] == "error"
        assert error["payload"][0]["extensions"] == {"code": "TOO_MANY_SUBSCRIPTIONS", "limit": 1}
        await server.post("1")
        with pytest.raises(httpx.HTTPStatusError, match="429"):
            await server.post("2")
        others = [Client(await connect(server.port)) for _ in range(4)]
        await others[-1].send_bytes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await others[-1]._more()
        assert others[-1]._buffer.startswith(b"HTTP/1.1 503")
        for other in others:
            other.sock.close()
