"""Tokens at every way in, against a real server: who is let in, what they find, and what happens when a token ends."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from resolvers.chat import Chat
from tests.fakes import fill
from tests.transports.graphql_ws_client import SUBSCRIBE, operation
from tests.transports.http_client import over_a_socket
from tests.transports.live_server import Closed, RawSocket
from tests.transports.tokens import SECRET, token
from transports.gate.identity import build_identity

STREAM = 'subscription { messages(channelId: "open") { sequence } }'
POST = """mutation ($c: ID!, $a: String!) { postMessage(channelId: $c, author: $a, content: "x") { id } }"""
EVENTS = {"accept": "text/event-stream"}
PARTS = {"accept": "multipart/mixed;subscriptionSpec=1.0"}


@asynccontextmanager
async def guarded() -> AsyncIterator[tuple[Chat, httpx.AsyncClient, int]]:
    async with over_a_socket(authenticate=build_identity(secret=SECRET).authenticate) as (chat, client, _):
        port = client.base_url.port
        assert port is not None
        yield chat, client, port


def bearer(**claims: Any) -> dict[str, str]:
    return {"authorization": f"Bearer {token(**claims)}"}


async def graphql_socket(port: int, payload: dict[str, Any] | None, **headers: str) -> RawSocket:
    opened = await RawSocket.open(port, "/graphql", subprotocol="graphql-transport-ws", headers=headers)
    await opened.send({"type": "connection_init", **({} if payload is None else {"payload": payload})})
    return opened


async def acknowledged(port: int, **claims: Any) -> RawSocket:
    opened = await graphql_socket(port, {"Authorization": f"Bearer {token(**claims)}"})
    assert await opened.expect() == {"type": "connection_ack"}
    return opened


# -- without a good token ------------------------------------------------------------------------------------------

BAD = {
    "none": {},
    "no-token": {"authorization": "Bearer x"},
    "foreign": {"authorization": f"Bearer {token('another secret that is just as long as it has to be')}"},
    "expired": {"authorization": f"Bearer {token(exp=int(time.time()) - 1)}"},
    "bad-cookie": {"cookie": "raqcoon_token=x"},
}


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD)
async def test_request_without_a_good_token_is_401_whatever_it_asks(headers: dict[str, str]) -> None:
    async with guarded() as (chat, client, _):
        await fill(chat, "open", 1)
        post = {"channel_id": "open", "author": "ann", "content": "x"}
        answers = [
            await client.post("/graphql", json={"query": "{ __typename }"}, headers=headers),
            await client.post("/graphql", json={"query": "not GraphQL"}, headers=headers),
            await client.get("/graphql", params={"query": "{ __schema { types { name } } }"}, headers=headers),
            await client.post(
                "/graphql", json={"query": POST, "variables": {"c": "open", "a": "ann"}}, headers=headers
            ),
            await client.post("/graphql", json={"query": STREAM}, headers={**headers, **EVENTS}),
            await client.post("/graphql", json={"query": STREAM}, headers={**headers, **PARTS}),
            await client.post("/api/messages", json=post, headers=headers),
            await client.post("/api/messages", content=b"[", headers=headers),
            await client.get("/api/messages", headers=headers),
            await client.get("/api/messages", params={"channel_id": "open"}, headers=headers),
            await client.get("/api/channels", headers=headers),
            await client.get("/api/summary", headers=headers),
        ]
        for answer in answers:
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert "UNAUTHENTICATED" in answer.text
            assert "open" not in answer.text
        assert await chat.log.last_sequence("open") == 1


@pytest.mark.parametrize("path", ["/graphql", "/api/messages"])
async def test_body_of_a_request_without_a_token_is_not_waited_for(path: str) -> None:
    async with guarded() as (_, _client, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: 900000\r\n\r\n".encode())
        async with asyncio.timeout(10):
            assert b" 401 " in await reader.readline()
        writer.transport.abort()


async def test_pages_and_health_need_no_token() -> None:
    async with guarded() as (_, client, _port):
        for path in ("/", "/healthz", "/readyz", "/api/health"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/graphql", headers={"accept": "text/html"})).status_code == 200


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD)
async def test_graphql_socket_without_a_good_token_is_closed_4403_before_any_ack(headers: dict[str, str]) -> None:
    async with guarded() as (chat, _, port):
        for payload in (None, {}, {"authorization": headers.get("authorization", "x")}):
            opened = await graphql_socket(port, payload, **headers)
            assert await opened.expect_close() == Closed(4403, "Forbidden")
        assert chat.hub.channels == {}


@pytest.mark.parametrize("headers", BAD.values(), ids=BAD)
@pytest.mark.parametrize("query", ["", "?token=x"])
async def test_plain_socket_without_a_good_token_is_told_and_closed_4403(headers: dict[str, str], query: str) -> None:
    async with guarded() as (chat, _, port):
        opened = await RawSocket.open(port, f"/api/ws/open{query}", headers=headers)
        assert (await opened.expect())["code"] == "UNAUTHENTICATED"
        assert (await opened.expect_close()).code == 4403
        assert chat.hub.channels == {}


# -- with one ------------------------------------------------------------------------------------------------------


async def test_token_is_taken_from_header_cookie_payload_and_query() -> None:
    good = token()
    async with guarded() as (chat, client, port):
        await fill(chat, "open", 1)
        for headers in ({"authorization": f"Bearer {good}"}, {"cookie": f"raqcoon_token={good}"}):
            assert (await client.get("/api/channels", headers=headers)).json() == {"channels": ["open"]}
            opened = await graphql_socket(port, None, **headers)
            assert await opened.expect() == {"type": "connection_ack"}
            await opened.close()
            await (await RawSocket.open(port, "/api/ws/open", headers=headers)).close()
        for payload in ({"Authorization": f"Bearer {good}"}, {"token": good}):
            opened = await graphql_socket(port, payload)
            assert await opened.expect() == {"type": "connection_ack"}
            await opened.close()
        plain = await RawSocket.open(port, f"/api/ws/open?token={good}")
        await plain.send({"type": "message", "author": "ann", "content": "x"})
        assert (await plain.expect())["data"]["author"] == "ann"
        await plain.close()


async def test_author_is_the_tokens_subject_unless_it_allows_others() -> None:
    async with guarded() as (chat, client, port):

        async def over_graphql(author: str, **claims: Any) -> str | None:
            body = {"query": POST, "variables": {"c": "open", "a": author}}
            result = (await client.post("/graphql", json=body, headers=bearer(**claims))).json()
            return result["errors"][0]["extensions"]["code"] if "errors" in result else None

        async def over_rest(author: str, **claims: Any) -> str | None:
            body = {"channel_id": "open", "author": author, "content": "x"}
            answer = await client.post("/api/messages", json=body, headers=bearer(**claims))
            return None if answer.status_code == 200 else str(answer.json()["code"])

        async def over_the_plain_socket(author: str, **claims: Any) -> str | None:
            opened = await RawSocket.open(port, f"/api/ws/open?token={token(**claims)}")
            await opened.send({"type": "message", "author": author, "content": "x"})
            frame = await opened.expect()
            await opened.close()
            return frame.get("code")

        async def over_the_graphql_socket(author: str, **claims: Any) -> str | None:
            opened = await acknowledged(port, **claims)
            await opened.send(operation("1", POST, c="open", a=author))
            payload = (await opened.expect())["payload"]
            await opened.expect()
            await opened.close()
            return payload["errors"][0]["extensions"]["code"] if "errors" in payload else None

        ways: list[Callable[..., Any]] = [over_graphql, over_rest, over_the_plain_socket, over_the_graphql_socket]
        for way in ways:
            assert await way("ann") is None
            assert await way("bob") == "FORBIDDEN"
            assert await way("bob", post_as="*") is None
        assert await chat.log.last_sequence("open") == 2 * len(ways)


async def test_channels_that_a_token_does_not_name_do_not_exist_for_it() -> None:
    async with guarded() as (chat, client, port):
        (secret,) = await fill(chat, "secret", 1, provider="openai", token_count=7)
        await fill(chat, "team-a", 2)
        await fill(chat, "team-b", 1)
        headers = bearer(channels=["team-*"])

        async def ask(query: str, **variables: Any) -> Any:
            body = {"query": query, "variables": variables}
            return (await client.post("/graphql", json=body, headers=headers)).json()

        listed = await ask("{ channels { edges { cursor } pageInfo { hasNextPage endCursor } } }")
        assert listed["data"]["channels"] == {
            "edges": [{"cursor": "team-a"}, {"cursor": "team-b"}],
            "pageInfo": {"hasNextPage": False, "endCursor": "team-b"},
        }
        fields = "{ channel(id: $c) { lastSequence headCursor messages { edges { node { id } } } } }"
        seen = (await ask(f"query ($c: ID!) {fields}", c="secret"))["data"]["channel"]
        unknown = (await ask(f"query ($c: ID!) {fields}", c="nobody-posted-here"))["data"]["channel"]
        assert (seen["lastSequence"], seen["messages"]) == (0, {"edges": []}) == (0, unknown["messages"])
        assert (await ask("query ($i: ID!) { message(id: $i) { id } }", i=secret.id)) == {"data": {"message": None}}
        past = "query ($c: ID!, $a: Cursor) { channel(id: $c) { messages(after: $a) { edges { cursor } } } }"
        assert "CURSOR_INVALID" in json.dumps(await ask(past, c="secret", a=secret.cursor))

        assert (await client.get("/api/channels", headers=headers)).json() == {"channels": ["team-a", "team-b"]}
        items = (await client.get("/api/messages", headers=headers)).json()["messages"]
        assert [item["id"] for item in items] == ["team-a:1", "team-a:2", "team-b:1"]
        one = await client.get("/api/messages", params={"channel_id": "secret"}, headers=headers)
        assert one.json() == {"messages": []}
        summary = (await client.get("/api/summary", headers=headers)).json()["summary"]
        assert summary == {"total_messages": 3, "total_tokens": 0, "by_provider": {}, "by_lane": {}}

        post = {"channel_id": "secret", "author": "ann", "content": "x"}
        assert (await client.post("/api/messages", json=post, headers=headers)).status_code == 403
        opened = await acknowledged(port, channels=["team-*"])
        await opened.send(operation("1", SUBSCRIBE, channel="secret"), operation("2", SUBSCRIBE, channel="team-a"))
        refused = await opened.expect()
        assert (refused["id"], refused["type"]) == ("1", "error")
        assert refused["payload"][0]["extensions"]["code"] == "FORBIDDEN"
        await opened.send({"type": "ping"})
        assert await opened.expect() == {"type": "pong"}
        await fill(chat, "team-a", 1)
        assert (await opened.expect())["id"] == "2"
        await opened.close()
        assert await chat.log.last_sequence("secret") == 1


# -- until it ends -------------------------------------------------------------------------------------------------


def soon() -> float:
    return time.time() + 0.7


async def test_token_that_ends_ends_subscriptions_then_the_socket_with_4403() -> None:
    async with guarded() as (chat, _, port):
        opened = await acknowledged(port, exp=soon())
        await opened.send(operation("1", SUBSCRIBE, channel="open"), operation("2", SUBSCRIBE, channel="open"))
        await opened.send({"type": "ping"})
        assert await opened.expect() == {"type": "pong"}
        await fill(chat, "open", 1)
        assert {(await opened.expect())["id"] for _ in range(2)} == {"1", "2"}
        ended = [await opened.expect() for _ in range(2)]
        assert {(frame["id"], frame["type"]) for frame in ended} == {("1", "error"), ("2", "error")}
        assert {frame["payload"][0]["extensions"]["code"] for frame in ended} == {"UNAUTHENTICATED"}
        assert await opened.expect_close() == Closed(4403, "Forbidden")
        assert chat.hub.subscribers == 0


async def test_token_that_ends_is_told_on_the_plain_socket_and_closes_it_with_4403() -> None:
    async with guarded() as (chat, _, port):
        opened = await RawSocket.open(port, f"/api/ws/open?token={token(exp=soon())}")
        assert (await opened.expect())["code"] == "UNAUTHENTICATED"
        assert (await opened.expect_close()).code == 4403
        assert chat.hub.subscribers == 0


@pytest.mark.parametrize("accept", [EVENTS, PARTS], ids=["sse", "multipart"])
async def test_token_that_ends_ends_the_stream_with_an_error(accept: dict[str, str]) -> None:
    async with guarded() as (chat, client, _):
        headers = {**accept, **bearer(exp=soon())}
        async with client.stream("POST", "/graphql", json={"query": STREAM}, headers=headers) as response:
            assert response.status_code == 200
            await fill(chat, "open", 1)
            received = (await response.aread()).decode()
        assert received.index('"sequence":1') < received.index("UNAUTHENTICATED")
        assert received.rstrip().endswith("event: complete\ndata:" if accept is EVENTS else "--graphql--")
        assert chat.hub.subscribers == 0


async def test_request_with_a_token_that_has_ended_meanwhile_is_401() -> None:
    async with guarded() as (_, client, _port):
        headers = bearer(exp=int(time.time()) + 1)
        assert (await client.get("/api/channels", headers=headers)).status_code == 200
        while (answer := await client.get("/api/channels", headers=headers)).status_code == 200:
            pass
        assert answer.status_code == 401
        assert answer.json()["detail"] == "The token has expired."
