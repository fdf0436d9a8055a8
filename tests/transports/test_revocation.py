"""An author who is thrown out, at every way in and against a real server: what ends, with what, and what stays."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from messages import Draft, encode_cursor
from resolvers.chat import Chat
from tests.fakes import fill
from tests.transports.graphql_ws_client import SUBSCRIBE, operation
from tests.transports.http_client import over_a_socket
from tests.transports.live_server import Closed, RawSocket
from tests.transports.test_event_streams import MULTIPART, SSE, Stream
from tests.transports.tokens import SECRET, SigningKey, key_set, token
from transports.gate.connections import Connections
from transports.gate.identity import build_identity

REVOKE = """mutation ($author: String!, $channel: ID, $until: DateTime) {
  revokeAccess(author: $author, channelId: $channel, until: $until) { author channelId until revokedBy }
}"""
RESTORE = "mutation ($author: String!, $channel: ID) { restoreAccess(author: $author, channelId: $channel) }"
LIST = """query ($first: Int, $after: String) {
  revocations(first: $first, after: $after) {
    edges { cursor node { author channelId until revokedAt revokedBy } }
    pageInfo { hasNextPage hasPreviousPage endCursor }
  }
}"""
POST = 'mutation ($c: ID!) { postMessage(channelId: $c, author: "eve", content: "x") { id } }'
MODERATOR = {"sub": "mod", "manage": ["*"]}


class Server:
    """A server with tokens, and short ways to use it."""

    def __init__(self, chat: Chat, client: httpx.AsyncClient) -> None:
        self.chat = chat
        self.client = client
        port = client.base_url.port
        assert port is not None
        self.port = port

    async def run(self, query: str, claims: dict[str, Any], **variables: Any) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {token(**claims)}"}
        response = await self.client.post("/graphql", json={"query": query, "variables": variables}, headers=headers)
        result: dict[str, Any] = response.json()
        return result

    async def revoke(self, author: str = "eve", **variables: Any) -> None:
        assert "errors" not in await self.run(REVOKE, MODERATOR, author=author, **variables)

    async def restore(self, author: str = "eve", **variables: Any) -> Any:
        return (await self.run(RESTORE, MODERATOR, author=author, **variables))["data"]["restoreAccess"]

    async def socket(self, **claims: Any) -> RawSocket:
        opened = await RawSocket.open(self.port, "/graphql", subprotocol="graphql-transport-ws")
        await opened.send({"type": "connection_init", "payload": {"token": token(**{"sub": "eve", **claims})}})
        return opened

    async def acknowledged(self, **claims: Any) -> RawSocket:
        opened = await self.socket(**claims)
        assert await opened.expect() == {"type": "connection_ack"}
        return opened

    async def plain(self, channel: str = "general", query: str = "") -> RawSocket:
        headers = {"Authorization": f"Bearer {token(sub='eve')}"}
        return await RawSocket.open(self.port, f"/api/ws/{channel}{query}", headers=headers)


@asynccontextmanager
async def guarded() -> AsyncIterator[Server]:
    async with over_a_socket(authenticate=build_identity(secret=SECRET).authenticate) as (chat, client, _):
        yield Server(chat, client)


def code(result: dict[str, Any]) -> str:
    (error,) = result["errors"]
    return str(error["extensions"]["code"])


async def ping(opened: RawSocket) -> None:
    await opened.send({"type": "ping"})
    assert await opened.expect() == {"type": "pong"}


# -- one channel ---------------------------------------------------------------------------------------------------


async def test_subscriptions_in_the_channel_end_with_forbidden_and_the_socket_stays() -> None:
    async with guarded() as server:
        eve, bob = await server.acknowledged(), await server.acknowledged(sub="bob")
        await eve.send(operation("here", SUBSCRIBE, channel="general"), operation("there", SUBSCRIBE, channel="other"))
        await ping(eve)
        await bob.send(operation("here", SUBSCRIBE, channel="general"))
        await ping(bob)
        await server.revoke(channel="general")
        ended = await eve.expect()
        assert (ended["id"], ended["type"], ended["payload"][0]["extensions"]["code"]) == ("here", "error", "FORBIDDEN")
        await fill(server.chat, "general", 1)
        await fill(server.chat, "other", 1)
        assert (await eve.expect())["id"] == "there", "nothing of the channel, and everything of the other"
        assert (await bob.expect())["id"] == "here", "who shares the cohort hears on"
        await eve.send(operation("again", SUBSCRIBE, channel="general"))
        again = await eve.expect()
        assert (again["id"], again["payload"][0]["extensions"]["code"]) == ("again", "FORBIDDEN")
        await eve.close()
        await bob.close()


@pytest.mark.parametrize("headers", [SSE, MULTIPART], ids=["sse", "multipart"])
@pytest.mark.parametrize("channel", ["general", None], ids=["channel", "everywhere"])
async def test_stream_ends_with_forbidden(headers: dict[str, str], channel: str | None) -> None:
    async with guarded() as server:
        request = {"query": SUBSCRIBE, "variables": {"channel": "general"}}
        headers = {**headers, "authorization": f"Bearer {token(sub='eve')}"}
        async with server.client.stream("POST", "/graphql", json=request, headers=headers) as response:
            stream = Stream(response)
            await server.revoke(channel=channel)
            await fill(server.chat, "general", 1)
            rest = await stream.rest()
        assert b"FORBIDDEN" in rest
        assert b'"sequence"' not in rest


@pytest.mark.parametrize(("channel", "close"), [("general", 1008), (None, 4403)])
async def test_plain_socket_is_told_and_closed(channel: str | None, close: int) -> None:
    async with guarded() as server:
        opened = await server.plain()
        await server.revoke(channel=channel)
        assert (await opened.expect())["code"] == "FORBIDDEN"
        assert (await opened.expect_close()).code == close
        again = await server.plain()
        assert (await again.expect())["code"] == "FORBIDDEN"
        assert (await again.expect_close()).code == close


async def test_subscriber_that_catches_up_and_reads_nothing_is_ended_too() -> None:
    async with guarded() as server:
        for number in range(200):
            await server.chat.log.append(Draft("general", "ann", f"{number}" + "x" * 60_000))
        eve = await server.acknowledged()
        start = encode_cursor(server.chat.log.epoch, "general", 0)
        await eve.send(operation("1", SUBSCRIBE, channel="general", after=start))
        first = await eve.expect()
        assert first["payload"]["data"]["messages"]["sequence"] == 1
        await server.revoke(channel="general")
        assert server.chat.hub.channels == {}, "nobody is left to be read for, though its socket is full"
        seen = 1
        while (frame := await eve.expect())["type"] == "next":
            seen += 1
        assert frame["payload"][0]["extensions"]["code"] == "FORBIDDEN"
        assert seen < await server.chat.log.last_sequence("general")
        await ping(eve)
        await eve.close()


READS = {
    "channel": '{ channel(id: "general") { lastSequence } }',
    "message": '{ message(id: "general:1") { content } }',
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_reads_of_the_channel_are_forbidden_with_any_token(read: str) -> None:
    async with guarded() as server:
        await fill(server.chat, "general", 1)
        await server.revoke(channel="general")
        for claims in ({"sub": "eve"}, {"sub": "eve", "jti": "fresh", "manage": ["*"], "post_as": "*"}):
            assert code(await server.run(read, claims)) == "FORBIDDEN"
        assert "errors" not in await server.run(read, {"sub": "bob"})


async def test_lists_and_totals_leave_the_channel_out() -> None:
    async with guarded() as server:
        await fill(server.chat, "general", 2)
        await fill(server.chat, "other", 1)
        await server.revoke(channel="general")
        listed = await server.run("{ channels { edges { node { id } } } }", {"sub": "eve"})
        assert [edge["node"]["id"] for edge in listed["data"]["channels"]["edges"]] == ["other"]
        get = {"headers": {"authorization": f"Bearer {token(sub='eve')}"}}
        assert (await server.client.get("/api/channels", **get)).json() == {"channels": ["other"]}
        assert len((await server.client.get("/api/messages", **get)).json()["messages"]) == 1
        assert (await server.client.get("/api/summary", **get)).json()["summary"]["total_messages"] == 1
        refused = await server.client.get("/api/messages", params={"channel_id": "general"}, **get)
        assert (refused.status_code, refused.json()["code"]) == (403, "FORBIDDEN")


async def test_posts_are_forbidden_under_the_name_and_with_the_token() -> None:
    async with guarded() as server:
        await server.revoke(channel="general")
        assert code(await server.run(POST, {"sub": "eve"}, c="general")) == "FORBIDDEN"
        assert code(await server.run(POST, {"sub": "bridge", "post_as": "*"}, c="general")) == "FORBIDDEN"
        assert "errors" not in await server.run(POST, {"sub": "eve"}, c="other")
        body = {"channel_id": "general", "author": "bob", "content": "x"}
        headers = {"authorization": f"Bearer {token(sub='eve', post_as='*')}"}
        assert (await server.client.post("/api/messages", json=body, headers=headers)).status_code == 403
        assert await server.chat.log.last_sequence("general") == 0


# -- every channel -------------------------------------------------------------------------------------------------


async def test_sockets_close_4403_with_every_subscription_told() -> None:
    async with guarded() as server:
        idle, busy, other = await server.acknowledged(), await server.acknowledged(), await server.acknowledged(sub="b")
        await busy.send(operation("1", SUBSCRIBE, channel="general"), operation("2", SUBSCRIBE, channel="other"))
        await ping(busy)
        await server.revoke()
        assert await idle.expect_close() == Closed(4403, "Forbidden")
        told = [await busy.expect(), await busy.expect()]
        assert {frame["id"] for frame in told} == {"1", "2"}
        assert {frame["payload"][0]["extensions"]["code"] for frame in told} == {"FORBIDDEN"}
        assert await busy.expect_close() == Closed(4403, "Forbidden")
        await ping(other)
        await other.close()
        again = await server.socket()
        assert await again.expect_close() == Closed(4403, "Forbidden")


async def test_requests_are_forbidden_until_it_is_restored() -> None:
    async with guarded() as server:
        await server.revoke()
        for query in ("{ __typename }", "{ channels { edges { cursor } } }", READS["channel"]):
            assert code(await server.run(query, {"sub": "eve"})) == "FORBIDDEN"
        assert code(await server.run(POST, {"sub": "eve"}, c="general")) == "FORBIDDEN"
        headers = {"authorization": f"Bearer {token(sub='eve')}"}
        for path in ("/api/messages", "/api/channels", "/api/summary"):
            assert (await server.client.get(path, headers=headers)).status_code == 403
        assert not await server.restore(channel="general"), "another revocation, which there is none of"
        assert await server.restore()
        assert not await server.restore()
        assert "errors" not in await server.run(POST, {"sub": "eve"}, c="general")
        opened = await server.acknowledged()
        await opened.close()


# -- who may, and what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claims", "channel", "allowed"),
    [
        ({"manage": ["*"]}, None, True),
        ({"manage": ["*"]}, "general", True),
        ({"manage": ["general"]}, "general", True),
        ({"manage": ["general"]}, "other", False),
        ({"manage": ["gen*", "?*"]}, None, False),
        ({}, "general", False),
        ({"read": ["*"], "post": ["*"]}, "general", False),
    ],
)
async def test_revoking_and_restoring_need_manage_there(
    claims: dict[str, Any], channel: str | None, allowed: bool
) -> None:
    async with guarded() as server:
        for query in (REVOKE, RESTORE):
            result = await server.run(query, {"sub": "mod", **claims}, author="eve", channel=channel)
            assert ("errors" not in result) is allowed
            assert allowed or code(result) == "FORBIDDEN"
        assert server.chat.log.revoked.listed() == []


@pytest.mark.parametrize(
    ("variables", "argument"),
    [
        ({"author": ""}, "author"),
        ({"author": "x" * 129}, "author"),
        ({"channel": "a b"}, "channelId"),
        ({"channel": ""}, "channelId"),
        ({"until": "2001-01-01T00:00:00Z"}, "until"),
        ({"until": "2999-01-01T00:00:00"}, "until"),
    ],
)
async def test_revocation_of_nothing_that_can_be_is_bad_input(variables: dict[str, Any], argument: str) -> None:
    async with guarded() as server:
        result = await server.run(REVOKE, MODERATOR, **{"author": "eve", **variables})
        assert code(result) == "BAD_USER_INPUT"
        assert result["errors"][0]["extensions"]["argument"] == argument


async def test_revocation_of_unknown_names_and_of_oneself_is_like_any_other() -> None:
    async with guarded() as server:
        await server.revoke("nobody-ever", channel="nowhere")
        await server.revoke("mod")
        assert code(await server.run(LIST, MODERATOR)) == "FORBIDDEN"
        assert [each.author for each in server.chat.log.revoked.listed()] == ["mod", "nobody-ever"]


async def test_revocation_ends_by_itself() -> None:
    async with guarded() as server:
        until = datetime.now(UTC) + timedelta(seconds=0.4)
        await server.revoke(channel="general", until=until.isoformat())
        assert code(await server.run(POST, {"sub": "eve"}, c="general")) == "FORBIDDEN"
        while datetime.now(UTC) < until:
            await asyncio.sleep(0.02)
        assert "errors" not in await server.run(POST, {"sub": "eve"}, c="general")
        assert (await server.run(LIST, MODERATOR))["data"]["revocations"]["edges"] == []


async def test_list_shows_whoever_manages_a_channel_its_revocations_page_by_page() -> None:
    async with guarded() as server:
        for author, channel in (("a", "general"), ("b", "other"), ("a", None), ("c", "general")):
            await server.revoke(author, channel=channel)
        every = (await server.run(LIST, MODERATOR))["data"]["revocations"]
        found = [(edge["node"]["author"], edge["node"]["channelId"]) for edge in every["edges"]]
        assert found == [("a", None), ("a", "general"), ("b", "other"), ("c", "general")]
        assert {edge["node"]["revokedBy"] for edge in every["edges"]} == {"mod"}
        paged, after = [], None
        while True:
            page = (await server.run(LIST, MODERATOR, first=3, after=after))["data"]["revocations"]
            assert page["pageInfo"]["hasPreviousPage"] is bool(paged)
            paged += page["edges"]
            after = page["pageInfo"]["endCursor"]
            if not page["pageInfo"]["hasNextPage"]:
                break
        assert paged == every["edges"]
        some = (await server.run(LIST, {"sub": "m", "manage": ["gen*"]}))["data"]["revocations"]["edges"]
        assert [edge["node"]["author"] for edge in some] == ["a", "c"]
        assert (await server.run(LIST, {"sub": "m"}))["data"]["revocations"]["edges"] == []
        assert code(await server.run(LIST, MODERATOR, after="junk")) == "CURSOR_INVALID"
        assert code(await server.run(LIST, MODERATOR, first=201)) == "BAD_USER_INPUT"


async def test_subscription_that_is_being_set_up_while_its_author_is_revoked_never_stands() -> None:
    async with guarded() as server:
        log, began, go_on = server.chat.log, asyncio.Event(), asyncio.Event()
        original = log.last_sequences

        async def slowly(channel_ids: Any) -> Any:
            began.set()
            await go_on.wait()
            return await original(channel_ids)

        log.last_sequences = slowly  # type: ignore[method-assign]
        eve = await server.acknowledged()
        await eve.send(operation("1", SUBSCRIBE, channel="general"))
        await began.wait()
        await server.revoke(channel="general")
        go_on.set()
        assert (await eve.expect())["payload"][0]["extensions"]["code"] == "FORBIDDEN"
        assert server.chat.hub.channels == {}
        await eve.close()


# -- a key that is withdrawn ---------------------------------------------------------------------------------------


async def test_withdrawn_key_ends_what_it_signed_and_nothing_else(tmp_path: Path) -> None:
    old, new = SigningKey("ES256", "old"), SigningKey("ES256", "new")
    path = tmp_path / "jwks.json"
    path.write_text(key_set(old, new))
    identity = build_identity(jwks=str(path), jwks_refresh_seconds=0.05)
    await identity.load()
    connections = Connections()
    async with over_a_socket(authenticate=identity.authenticate, connections=connections) as (chat, client, _):
        identity.watch(connections.expel)
        server = Server(chat, client)

        async def graphql(key: SigningKey) -> RawSocket:
            opened = await RawSocket.open(server.port, "/graphql", subprotocol="graphql-transport-ws")
            params = {"headers": {"Authorization": f"Bearer {key.token()}"}}
            await opened.send({"type": "connection_init", "payload": params})
            assert await opened.expect() == {"type": "connection_ack"}
            await opened.send(operation("1", SUBSCRIBE, channel="general"))
            await ping(opened)
            return opened

        with_old, with_new = await graphql(old), await graphql(new)
        plain = await RawSocket.open(server.port, "/api/ws/general", headers={"Authorization": f"Bearer {old.token()}"})
        headers = {**SSE, "authorization": f"Bearer {old.token()}"}
        request = {"query": SUBSCRIBE, "variables": {"channel": "general"}}
        async with client.stream("POST", "/graphql", json=request, headers=headers) as response:
            path.write_text(key_set(new))
            rest = await Stream(response).rest()
        assert b"UNAUTHENTICATED" in rest
        assert (await with_old.expect())["payload"][0]["extensions"]["code"] == "UNAUTHENTICATED"
        assert await with_old.expect_close() == Closed(4403, "Forbidden")
        assert (await plain.expect())["code"] == "UNAUTHENTICATED"
        assert (await plain.expect_close()).code == 4403
        refused = await client.get("/api/channels", headers={"authorization": f"Bearer {old.token()}"})
        assert refused.status_code == 401
        await fill(chat, "general", 1)
        assert (await with_new.expect())["type"] == "next"
        await with_new.close()
        await identity.stop()
