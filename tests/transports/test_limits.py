"""Limits on what is sent, at the edge and one past it, over the wire.

Beside what they limit are tested: documents' tokens and aliases (`schema/test_documents`), history pages
(`resolvers/test_history`), input rules and filters (`resolvers/test_input_rules`), cohorts (`delivery/test_hub`),
operation ids and subscriptions of a socket (`test_graphql_ws_protocol`), the time until an ack
(`test_graphql_ws_socket`), connections, headers and their time (`test_http_protocol`), tokens (`test_identity`).
"""

import json
import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from errors import BadUserInput
from resolvers.history import PAGE_MAX
from resolvers.post_rate import PostRate
from schema.context import Context
from schema.operations import Operations
from tests.fakes import fill, memory_chat
from tests.standstill import STANDSTILL_SECONDS_MAX, slowness, watching
from tests.transports.graphql_ws_client import POST, operation
from tests.transports.http_client import over_a_socket
from tests.transports.live_server import Closed, RawSocket, frame, serve
from transports.app import build_app
from transports.gate.limits import Limits
from transports.wire.json_codec import NESTING_MAX

JSON = {"content-type": "application/json"}
ITEM = {"channel_id": "c", "author": "ann", "content": "x"}
BYTES_MAX = 20_000


@pytest.mark.parametrize("path", ["/graphql", "/api/ws/c"])
async def test_frame_of_the_greatest_length_is_read_and_one_byte_more_closes_1009(path: str) -> None:
    subprotocol = "graphql-transport-ws" if path == "/graphql" else None
    first = {"type": "connection_init"} if subprotocol else {"type": "message", "content": "x"}
    async with memory_chat() as chat:
        async with serve(build_app(chat, Operations()), max_size=BYTES_MAX) as port:
            for size in (BYTES_MAX, BYTES_MAX + 1):
                opened = await RawSocket.open(port, path, subprotocol=subprotocol)
                opened.writer.write(frame(json.dumps(first).ljust(size)))
                answer = await opened.receive()
                if size == BYTES_MAX:
                    assert isinstance(answer, dict)
                    await opened.close()
                else:
                    assert isinstance(answer, Closed)
                    assert answer.code == 1009
                    opened.writer.close()
        assert await chat.log.last_sequence("c") == (path != "/graphql")


async def test_fragments_are_measured_together() -> None:
    async with memory_chat() as chat, serve(build_app(chat, Operations()), max_size=BYTES_MAX) as port:
        opened = await RawSocket.open(port, "/api/ws/c")
        begun = bytearray(frame("x" * (BYTES_MAX // 2)))
        begun[0] &= 0x7F
        opened.writer.write(bytes(begun) + frame(b"x" * (BYTES_MAX // 2 + 1), opcode=0))
        answer = await opened.receive()
        assert isinstance(answer, Closed)
        assert answer.code == 1009
        opened.writer.close()


async def test_body_of_the_greatest_length_is_read_and_one_byte_more_is_413() -> None:
    async with over_a_socket(limits=Limits(body_bytes=BYTES_MAX)) as (chat, client, _):
        for path, body in (("/graphql", {"query": "{ __typename }"}), ("/api/messages", ITEM)):
            for size, status in ((BYTES_MAX, 200), (BYTES_MAX + 1, 413)):
                answer = await client.post(path, content=json.dumps(body).ljust(size), headers=JSON)
                assert answer.status_code == status
        assert await chat.log.last_sequence("c") == 1


@pytest.mark.parametrize("limit", [40, 400])
async def test_variables_of_the_greatest_length_are_taken_and_one_byte_more_is_bad_input(limit: int) -> None:
    query = "query ($i: ID!) { message(id: $i) { id } }"
    room = limit - len('{"i":""}')
    async with memory_chat() as chat:
        app = build_app(chat, Operations(), limits=Limits(variables_bytes=limit))
        async with serve(app) as port, _client(port) as client:
            socket = await RawSocket.open(port, "/graphql", subprotocol="graphql-transport-ws")
            await socket.send({"type": "connection_init"})
            await socket.expect()
            for size, refused in ((room, False), (room + 1, True)):
                body = {"query": query, "variables": {"i": "x" * size}}
                over_http = (await client.post("/graphql", json=body)).json()
                await socket.send({"id": "1", "type": "subscribe", "payload": body})
                over_socket = (await socket.expect())["payload"]
                if refused:
                    [error] = over_http["errors"]
                    assert error["extensions"] == {"code": "BAD_USER_INPUT", "argument": "variables"}
                    assert over_socket == [error]
                else:
                    assert over_http == over_socket == {"data": {"message": None}}
                    assert (await socket.expect())["type"] == "complete"
            await socket.close()


FILTERED = """query ($l: [String!], $f: MessageFilter) { channel(id: "c") {
  messages(filter: { lanes: $l }) { edges { cursor } } more: messages(filter: $f) { edges { cursor } }
} }"""


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"l": ["x"] * 250_000}, "10000 values"),
        ({"f": {f"member{number}": number for number in range(90_000)}}, "values"),
        ({"f": {f"member{number}": number for number in range(5_000)}}, "100 members"),
        ({"l": [[]] * 9_000 + [[1] * 1_000]}, "10000 values"),
        ({f"v{number}": number for number in range(10_001)}, "10000 values"),
    ],
)
@pytest.mark.alone
async def test_variables_are_counted_before_anything_is_made_of_them(variables: dict[str, Any], problem: str) -> None:
    limits = Limits()
    began = time.thread_time()
    with pytest.raises(BadUserInput, match=problem):
        limits.check_variables(variables)
    assert time.thread_time() - began < 0.01 * slowness()


@pytest.mark.alone
async def test_variables_with_as_many_values_as_allowed_keep_the_loop_for_less_than_a_standstill() -> None:
    limits = Limits()
    async with memory_chat() as chat:
        operations = Operations()
        prepared = operations.prepare(FILTERED, None)
        full = {"lanes": ["x"] * 100, "authors": ["y"] * 100, "providers": ["z"] * 100}
        for variables in ({"l": ["x"] * 9_999}, {"f": {f"m{n}": n for n in range(100)}}, {"l": ["x"] * 100, "f": full}):
            limits.check_variables(variables)
            async with watching() as watch:
                result = await operations.execute(prepared, variables, Context(chat))
            assert ("errors" in result) == (full not in variables.values())
            assert watch.longest_seconds < STANDSTILL_SECONDS_MAX * slowness()


async def test_json_past_a_nesting_that_was_set_lower_is_refused_at_every_way_in() -> None:
    async with memory_chat() as chat:
        app = build_app(chat, Operations(), limits=Limits(json_nesting=10))
        async with serve(app) as port, _client(port) as client:

            def text(opening: str, levels: int) -> str:
                outer = 1 + opening.count(":{")
                return opening + "[" * (levels - outer) + "]" * (levels - outer) + "}" * outer

            for levels, deep in ((10, False), (11, True)):
                body = text('{"query":"{ __typename }","variables":{"a":', levels)
                assert (await client.post("/graphql", content=body, headers=JSON)).status_code == (400 if deep else 200)
                query = {"query": "{ __typename }", "variables": text('{"a":', levels)}
                assert (await client.get("/graphql", params=query)).status_code == (400 if deep else 200)
                socket = await RawSocket.open(port, "/graphql", subprotocol="graphql-transport-ws")
                socket.writer.write(frame(text('{"type":"ping","payload":{"a":', levels)))
                answer = await socket.receive()
                if deep:
                    assert isinstance(answer, Closed)
                    assert answer.code == 4400
                    socket.writer.close()
                else:
                    assert isinstance(answer, dict)
                    await socket.close()
                plain = await RawSocket.open(port, "/api/ws/c")
                plain.writer.write(frame(text('{"type":"message","content":"x","more":{"a":', levels)))
                assert (await plain.expect())["type"] == ("error" if deep else "message")
                await plain.close()
            # Brackets side by side are not nesting.
            wide = {"query": "{ __typename }", "variables": {"a": [[] for _ in range(500)]}}
            assert (await client.post("/graphql", json=wide)).status_code == 200


async def test_variables_are_bounded_by_the_body_they_come_in() -> None:
    body = {"query": "query ($i: ID!) { message(id: $i) { id } }", "variables": {"i": ""}}
    room = BYTES_MAX - len(json.dumps(body))
    async with over_a_socket(limits=Limits(body_bytes=BYTES_MAX)) as (_, client, _app):
        for size, status in ((room, 200), (room + 1, 413)):
            text = json.dumps({**body, "variables": {"i": "x" * size}})
            assert (await client.post("/graphql", content=text, headers=JSON)).status_code == status


@pytest.mark.parametrize(
    "opening", ['{"query":"{ __typename }","extensions":{"a":', '{"query":"{ __typename }","variables":{"a":']
)
async def test_json_of_the_greatest_depth_is_read_and_one_level_more_is_400(opening: str) -> None:
    outer = opening.count("{") - 1
    async with over_a_socket() as (_, client, _app):
        for levels, status in ((NESTING_MAX, 200), (NESTING_MAX + 1, 400)):
            inner = levels - outer
            body = opening + "[" * inner + "]" * inner + "}}"
            assert (await client.post("/graphql", content=body, headers=JSON)).status_code == status


async def test_json_deep_in_a_variable_that_is_used_is_bad_input() -> None:
    async with over_a_socket() as (_, client, _app):
        deep = "[" * 1000 + "]" * 1000
        for type_, field in (("MessageFilter", "filter"), ("Cursor", "after"), ("Int", "first")):
            query = f"query ($v: {type_}) {{ channel(id: 1) {{ messages({field}: $v) {{ edges {{ cursor }} }} }} }}"
            body = f'{{"query":{json.dumps(query)},"variables":{{"v":{deep}}}}}'
            answer = await client.post("/graphql", content=body, headers=JSON)
            assert answer.json()["errors"][0]["extensions"]["code"] in ("BAD_USER_INPUT", "CURSOR_INVALID")


async def test_history_page_of_the_greatest_length_is_read_and_one_more_is_bad_input() -> None:
    async with over_a_socket() as (chat, client, _):
        await fill(chat, "c", PAGE_MAX + 1)
        query = 'query ($n: Int) { channel(id: "c") { messages(first: $n) { edges { cursor } } } }'
        full = await client.post("/graphql", json={"query": query, "variables": {"n": PAGE_MAX}})
        assert len(full.json()["data"]["channel"]["messages"]["edges"]) == PAGE_MAX
        over = await client.post("/graphql", json={"query": query, "variables": {"n": PAGE_MAX + 1}})
        assert over.json()["errors"][0]["extensions"] == {"code": "BAD_USER_INPUT", "argument": "first"}


# -- posts per second ----------------------------------------------------------------------------------------------

MUTATION = """mutation ($a: String!, $k: String) {
  postMessage(channelId: "c", author: $a, content: "x", idempotencyKey: $k) { sequence }
}"""


async def test_posts_past_the_rate_are_told_when_to_come_again_at_every_way_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resolvers.post_message.time", SimpleNamespace(monotonic=lambda: 1000.0))
    async with memory_chat(post_rate=PostRate(4)) as chat:
        async with serve(build_app(chat, Operations())) as port, _client(port) as client:

            async def mutate(author: str, key: str | None = None) -> Any:
                body = {"query": MUTATION, "variables": {"a": author, "k": key}}
                return (await client.post("/graphql", json=body)).json()

            assert [(await mutate("ann", f"k{n}"))["data"]["postMessage"]["sequence"] for n in range(4)] == [1, 2, 3, 4]

            limited = (await mutate("bob"))["errors"][0]["extensions"]
            assert limited == {"code": "RATE_LIMITED", "retryAfterMs": 250}
            # A repeat is neither counted nor refused.
            assert (await mutate("ann", "k2"))["data"]["postMessage"]["sequence"] == 3

            rest = await client.post("/api/messages", json=ITEM)
            assert (rest.status_code, rest.json()["code"]) == (429, "RATE_LIMITED")
            assert rest.headers["retry-after"] == "1"
            repeat = await client.post("/api/messages", json=ITEM, headers={"Idempotency-Key": "k0"})
            assert repeat.json()["message"]["sequence"] == 1

            plain = await RawSocket.open(port, "/api/ws/c")
            await plain.send({"type": "message", "content": "x"})
            refused = await plain.expect()
            assert (refused["code"], refused["retryAfterMs"] > 0) == ("RATE_LIMITED", True)
            await plain.close()

            opened = await RawSocket.open(port, "/graphql", subprotocol="graphql-transport-ws")
            await opened.send({"type": "connection_init"}, operation("1", POST.replace("general", "c"), content="x"))
            await opened.expect()
            assert "RATE_LIMITED" in json.dumps(await opened.expect())
            await opened.expect()
            await opened.close()
        assert await chat.log.last_sequence("c") == 4


def _client(port: int) -> Any:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)
