"""Rights by ways in by operations. Whatever the contract, the REST shim or the dispatch gains fails here until it is in
the matrix.

For every bearer, each operation is allowed, is `FORBIDDEN`, or is answered as if the channel were empty: byte for byte
what a channel is answered that nobody has ever posted to.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from graphql import build_schema

from message_log.protocol import MessageLog
from messages import ANYONE, Message, Revocation
from resolvers.change_message import edit_message
from resolvers.chat import Chat
from resolvers.post_message import post_message
from schema.export import sdl
from tests.fakes import fill, memory_chat
from tests.transports.http_client import over_a_socket
from tests.transports.live_server import Closed, RawSocket
from tests.transports.tokens import SECRET, token
from transports.app import App
from transports.gate.identity import build_identity
from transports.shims.rest import build_rest

SECRET_CHANNEL, VACANT_CHANNEL = "secret", "vacant"
"""Both are as long, so that answers about them can be compared; only the first was ever posted to."""

ALLOWED, FORBIDDEN, EMPTY = "allowed", "FORBIDDEN", "as if empty"


@dataclass(frozen=True)
class Bearer:
    """A token, the rights that it gives in both channels, and whether its author was thrown out of them."""

    claims: dict[str, Any]
    rights: frozenset[str]
    revoked: bool = False


BEARERS = {
    "everything": Bearer({"manage": ["*"]}, frozenset({"read", "post", "manage"})),
    "member": Bearer({"channels": ["secret", "vacant"]}, frozenset({"read", "post"})),
    "reader": Bearer({"read": ["secret", "vacant"]}, frozenset({"read"})),
    "poster": Bearer({"post": ["*"], "read": ["other"]}, frozenset({"post"})),
    "manager": Bearer({"channels": [], "manage": ["*"]}, frozenset({"manage"})),
    "stranger": Bearer({"channels": ["other", "secret?"], "manage": ["other"]}, frozenset()),
    "thrown out": Bearer({"manage": ["*"]}, frozenset(), revoked=True),
}


@dataclass(frozen=True)
class Operation:
    """What is asked, which right it needs, and what it is answered without."""

    needs: str
    """Rights joined by `+`, alternatives by `|`."""
    without: str
    revoked: str
    document: str = ""
    """For GraphQL; `%s` is the channel."""
    kind: str = "query"


READING = {"needs": "read", "without": EMPTY, "revoked": FORBIDDEN}
LISTING = {"needs": "read", "without": EMPTY, "revoked": EMPTY}
CHANGING = {"needs": "manage", "without": FORBIDDEN, "revoked": FORBIDDEN, "kind": "mutation"}
COMPLETING = {**CHANGING, "needs": "read+post|manage"}
MANAGING = {"needs": "manage", "without": FORBIDDEN, "revoked": FORBIDDEN, "kind": "mutation"}

GRAPHQL = {
    "Query.channel": Operation(
        **READING,
        document='{ channel(id: "%s") { lastSequence messages(last: 5) { edges { node { content } } '
        "pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } } }",
    ),
    "Query.message": Operation(**READING, document='{ message(id: "%s:1") { content } }'),
    "Query.channels": Operation(**LISTING, document='{ channels(after: "r", first: 200) { edges { node { id } } } }'),
    "Query.revocations": Operation(
        "manage", EMPTY, EMPTY, '{ revocations { edges { node { author } } } x: channel(id: "z%s") { lastSequence } }'
    ),
    "Mutation.postMessage": Operation(
        "post",
        FORBIDDEN,
        FORBIDDEN,
        'mutation { postMessage(channelId: "%s", author: "bob", content: "x") { author } }',
        "mutation",
    ),
    "Mutation.revokeAccess": Operation(
        **MANAGING, document='mutation { revokeAccess(author: "nobody", channelId: "%s") { author } }'
    ),
    "Mutation.restoreAccess": Operation(
        **MANAGING, document='mutation { restoreAccess(author: "nobody", channelId: "%s") }'
    ),
    # On what ann has posted: its author is another.
    "Mutation.appendToMessage": Operation(
        **CHANGING, document='mutation { appendToMessage(id: "%s:1", revision: 0, piece: "x") { content } }'
    ),
    "Mutation.completeMessage": Operation(
        **COMPLETING, document='mutation { completeMessage(id: "%s:2") { content } }'
    ),
    "Mutation.editMessage": Operation(
        **CHANGING, document='mutation { editMessage(id: "%s:2", content: "x") { content lane } }'
    ),
    "Mutation.eraseMessage": Operation(**CHANGING, document='mutation { eraseMessage(id: "%s:3") { content } }'),
    "Mutation.eraseAuthor": Operation(**CHANGING, document='mutation { eraseAuthor(author: "nobody") }'),
    "Subscription.changes": Operation(
        "read", FORBIDDEN, FORBIDDEN, 'subscription { changes(channelId: "%s") { content } }', "subscription"
    ),
    "Subscription.messages": Operation(
        "read", FORBIDDEN, FORBIDDEN, 'subscription { messages(channelId: "%s") { content } }', "subscription"
    ),
}
REST = {
    ("POST", "/api/messages"): Operation("post", FORBIDDEN, FORBIDDEN, kind="mutation"),
    ("PATCH", "/api/messages/{message_id}"): Operation(**CHANGING),
    ("POST", "/api/messages/{message_id}/append"): Operation(**CHANGING),
    ("POST", "/api/messages/{message_id}/complete"): Operation(**COMPLETING),
    ("DELETE", "/api/messages/{message_id}"): Operation(**CHANGING),
    ("GET", "/api/messages"): Operation(**READING),
    ("GET", "/api/channels"): Operation(**LISTING),
    ("GET", "/api/summary"): Operation(**LISTING),
}
NO_CHANNEL = {("GET", "/api/health")}
"""Calls that show nothing of any channel."""
PLAIN = {
    "follow": Operation("read", FORBIDDEN, FORBIDDEN, kind="subscription"),
    "follow?changes=1": Operation("read", FORBIDDEN, FORBIDDEN, kind="subscription"),
    "post": Operation("post", FORBIDDEN, FORBIDDEN, kind="mutation"),
}


# -- the matrix is whole -------------------------------------------------------------------------------------------


def test_every_field_of_the_contract_is_in_the_matrix() -> None:
    schema = build_schema(sdl())
    fields = set()
    for root in (schema.query_type, schema.mutation_type, schema.subscription_type):
        assert root is not None
        fields |= {f"{root.name}.{name}" for name in root.fields}
    assert fields == set(GRAPHQL)


async def test_every_call_of_the_rest_shim_is_in_the_matrix() -> None:
    async with memory_chat() as chat:
        app, _ = build_rest(chat)
    calls = {(method, route.path) for route in app.routes if isinstance(route, APIRoute) for method in route.methods}
    assert calls == set(REST) | NO_CHANNEL


def test_every_way_into_the_dispatch_is_in_the_matrix() -> None:
    """What `App` hands requests and sockets to: a new one has to be looked at here."""
    ways = {name for name in App.__init__.__annotations__ if name not in ("self", "chat", "return")}
    assert ways == {
        *("graphql_http", "graphql_socket", "plain_socket", "rest", "rest_post"),
        # These show nothing of any channel, or no more than figures.
        *("pages", "metrics", "connections", "origins", "proxies"),
    }


# -- the ways in ---------------------------------------------------------------------------------------------------


class Asking:
    """One bearer's client; each way returns the answer as text."""

    def __init__(self, chat: Chat, client: httpx.AsyncClient, claims: dict[str, Any]) -> None:
        self.chat = chat
        self.client = client
        self.headers = {"authorization": f"Bearer {token(sub='bob', **claims)}"}
        port = client.base_url.port
        assert port is not None
        self.port = port

    async def post(self, operation: Operation, channel: str) -> str:
        return (await self._graphql(operation, channel, "application/json")).text

    async def get(self, operation: Operation, channel: str) -> str:
        parameters = {"query": _document(operation, channel)}
        return (await self.client.get("/graphql", params=parameters, headers=self.headers)).text

    async def sse(self, operation: Operation, channel: str) -> str:
        return await self._stream(operation, channel, "text/event-stream")

    async def multipart(self, operation: Operation, channel: str) -> str:
        return await self._stream(operation, channel, "multipart/mixed;subscriptionSpec=1.0")

    async def socket(self, operation: Operation, channel: str) -> str:
        opened = await RawSocket.open(self.port, "/graphql", subprotocol="graphql-transport-ws", headers=self.headers)
        await opened.send({"type": "connection_init"})
        assert await opened.expect() == {"type": "connection_ack"}
        payload = {"query": _document(operation, channel)}
        await opened.send({"id": "1", "type": "subscribe", "payload": payload}, {"type": "ping"})
        if operation.kind == "subscription":
            answer = await opened.expect()
            if answer["type"] == "pong":
                await stir(self.chat, channel)
                answer = await opened.expect()
        else:
            while (answer := await opened.expect())["type"] == "pong":
                pass
        await opened.close()
        return json.dumps(answer["payload"])

    async def _graphql(self, operation: Operation, channel: str, accept: str) -> httpx.Response:
        body = {"query": _document(operation, channel)}
        return await self.client.post("/graphql", json=body, headers={**self.headers, "accept": accept})

    async def _stream(self, operation: Operation, channel: str, accept: str) -> str:
        if operation.kind != "subscription":
            return (await self._graphql(operation, channel, accept)).text
        body = {"query": _document(operation, channel)}
        headers = {**self.headers, "accept": accept}
        async with self.client.stream("POST", "/graphql", json=body, headers=headers) as response:
            pieces = response.aiter_text()
            text = await anext(pieces)
            posting = asyncio.ensure_future(stir(self.chat, channel))
            while not any(mark in text for mark in ("content", "errors", "FORBIDDEN")):
                text += await anext(pieces)
            await posting
        return text

    async def rest(self, call: tuple[str, str], channel: str) -> str:
        method, path = call
        if method == "POST":
            body = {"channel_id": channel, "author": "bob", "content": "x"}
            changed = {"content": "x", "piece": "x", "revision": 0} if "{message_id}" in path else body
            place = path.replace("{message_id}", f"{channel}:1")
            return (await self.client.post(place, json=changed, headers=self.headers)).text
        if method in ("PATCH", "DELETE"):
            place = path.replace("{message_id}", f"{channel}:{2 if method == 'PATCH' else 3}")
            changed = {"json": {"content": "x"}} if method == "PATCH" else {}
            return (await self.client.request(method, place, headers=self.headers, **changed)).text
        answers = [await self.client.get(path, headers=self.headers)]
        if path == "/api/messages":
            answers = [await self.client.get(path, params={"channel_id": channel}, headers=self.headers)]
        return "".join(answer.text for answer in answers)

    async def plain(self, name: str, channel: str) -> str:
        name, _, query = name.partition("?")
        opened = await RawSocket.open(self.port, f"/api/ws/{channel}?{query}", headers=self.headers)
        await opened.send({"type": "ping"})
        answer = await opened.receive()
        if isinstance(answer, dict) and answer["type"] == "pong":
            if name == "follow" and not self.chat.hub.channels:
                answer = {"code": FORBIDDEN}  # It takes posts and is sent nothing.
            elif name == "follow":
                await stir(self.chat, channel)
                while (answer := await opened.expect())["type"] != ("change" if query else "message"):
                    pass
            else:
                await opened.send({"type": "message", "author": "bob", "content": "x"}, {"type": "ping"})
                answer = await opened.expect()
        assert not isinstance(answer, Closed)
        await opened.close()
        return json.dumps(answer)


def _document(operation: Operation, channel: str) -> str:
    return operation.document % channel if "%s" in operation.document else operation.document


async def stir(chat: Chat, channel: str) -> None:
    """Something to hear for whoever follows: a message, and a change of it."""
    (message,) = await fill(chat, channel, 1)
    await edit_message(chat, ANYONE, message_id=message.id, content="changed")


@asynccontextmanager
async def asking(bearer: Bearer) -> AsyncIterator[Asking]:
    async with over_a_socket(authenticate=build_identity(secret=SECRET).authenticate) as (chat, client, _):
        for number in (1, 2, 3):
            await post_message(
                chat,
                ANYONE,
                channel_id=SECRET_CHANNEL,
                author="ann",
                content=f"hidden {number}",
                lane="hidden",
                complete=number == 3,
            )
        now = datetime.now(UTC)
        await chat.log.revoke(Revocation("someone", SECRET_CHANNEL, None, now, "mod"))
        if bearer.revoked:
            for channel in (SECRET_CHANNEL, VACANT_CHANNEL):
                await chat.log.revoke(Revocation("bob", channel, None, now, "mod"))
        yield Asking(chat, client, bearer.claims)


Ask = Callable[[str], Awaitable[str]]


async def judge(asking: Asking, bearer: Bearer, operation: Operation, ask: Ask) -> None:
    """Asks about the secret channel, and about one that nobody has posted to, where the answer must not differ."""
    log = asking.chat.log
    if any(set(together.split("+")) <= bearer.rights for together in operation.needs.split("|")):
        expected = ALLOWED
    else:
        expected = operation.revoked if bearer.revoked else operation.without
    vacant = (await ask(VACANT_CHANNEL)).replace(VACANT_CHANNEL, SECRET_CHANNEL) if expected == EMPTY else ""
    revisions = [message.revision for message in await _held(log)]
    head, revocations = await log.last_sequence(SECRET_CHANNEL), log.revoked.listed()
    answer = await ask(SECRET_CHANNEL)
    assert "read" in bearer.rights or "hidden" not in answer, "no answer shows what one may not read"
    if expected == ALLOWED:
        assert FORBIDDEN not in answer
        assert '"errors"' not in answer
    elif expected == FORBIDDEN:
        assert FORBIDDEN in answer
        assert '"content"' not in answer.replace("content=", "")
        if operation.kind == "mutation":
            assert await log.last_sequence(SECRET_CHANNEL) == head
            assert [message.revision for message in await _held(log)] == revisions
            assert log.revoked.listed() == revocations
    else:
        assert answer == vacant
        assert FORBIDDEN not in answer
        for told in ('"ann"', '"someone"', f'"id":"{SECRET_CHANNEL}"'):
            assert told not in answer


async def _held(log: MessageLog) -> list[Message]:
    return (await log.history(SECRET_CHANNEL, limit=1000)).messages


WAYS = {"post": ("query", "mutation"), "get": ("query",), "socket": ("query", "mutation", "subscription")}
WAYS |= dict.fromkeys(("sse", "multipart"), ("query", "mutation", "subscription"))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bearer", BEARERS.values(), ids=BEARERS)
async def test_graphql(bearer: Bearer, way: str) -> None:
    async with asking(bearer) as client:
        for operation in GRAPHQL.values():
            if operation.kind in WAYS[way]:
                run = getattr(client, way)
                await judge(client, bearer, operation, lambda channel, op=operation, run=run: run(op, channel))


@pytest.mark.parametrize("bearer", BEARERS.values(), ids=BEARERS)
async def test_rest(bearer: Bearer) -> None:
    async with asking(bearer) as client:
        for call, operation in REST.items():
            await judge(client, bearer, operation, lambda channel, call=call: client.rest(call, channel))


@pytest.mark.parametrize("bearer", BEARERS.values(), ids=BEARERS)
async def test_plain_websocket(bearer: Bearer) -> None:
    async with asking(bearer) as client:
        for name, operation in PLAIN.items():
            await judge(client, bearer, operation, lambda channel, name=name: client.plain(name, channel))
