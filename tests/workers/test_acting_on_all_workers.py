"""What is done at one worker acts at all of them: a revocation, an edit, an erasure, an answer that grows."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from examples.held_messages import HeldMessages
from tests.workers.worker_server import WorkerServer

pytestmark = pytest.mark.timeout(120)

SECRET = "a secret of thirty-two bytes or more"
WORKERS = 2
SOCKETS = 8
"""So many that each worker has some of them, but for one run in a hundred."""
FIELDS = "{ id sequence revision content complete erasedAt }"
MESSAGES = f'subscription {{ messages(channelId: "general") {FIELDS} }}'
CHANGES = 'subscription { changes(channelId: "general") { messageId kind revision piece content timestamp } }'


def token(sub: str, **claims: object) -> str:
    return jwt.encode({"sub": sub, "exp": int(time.time()) + 3600, **claims}, SECRET, algorithm="HS256")


@asynccontextmanager
async def socket(server: WorkerServer, bearer: str | None, *queries: str) -> AsyncIterator[ClientConnection]:
    """A GraphQL socket with these subscriptions; they stand when it is handed out."""
    async with connect(server.socket_url, subprotocols=[Subprotocol("graphql-transport-ws")]) as connection:
        payload = {"token": bearer} if bearer else {}
        await connection.send(json.dumps({"type": "connection_init", "payload": payload}))
        assert json.loads(await connection.recv())["type"] == "connection_ack"
        for number, query in enumerate(queries):
            await connection.send(json.dumps({"id": str(number), "type": "subscribe", "payload": {"query": query}}))
        await connection.send('{"type":"ping"}')
        assert json.loads(await connection.recv())["type"] == "pong"
        yield connection


async def run(client: httpx.AsyncClient, query: str, **variables: object) -> Any:
    answer = (await client.post("/graphql", json={"query": query, "variables": variables})).json()
    assert "errors" not in answer, answer
    return next(iter(answer["data"].values()))


async def ended(connection: ClientConnection) -> tuple[float, int | None]:
    """When the socket's end came, and its close code."""
    try:
        async for _ in connection:
            pass
    except ConnectionClosed:
        pass
    return time.monotonic(), connection.close_code


@pytest.mark.alone
async def test_revocation_at_one_worker_closes_sockets_of_all_within_a_second(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=WORKERS, auth="jwt", jwt_secret=SECRET) as server:
        bearer = token("mod", manage=["*"], read=["*"], post=["*"])
        headers = {"authorization": f"Bearer {bearer}"}
        async with asyncio.TaskGroup() as group, httpx.AsyncClient(base_url=server.url, headers=headers) as client:
            eves = []
            stood = [asyncio.Event() for _ in range(SOCKETS)]

            async def eve(number: int) -> tuple[float, int | None]:
                async with socket(server, token("eve"), MESSAGES) as connection:
                    stood[number].set()
                    return await ended(connection)

            eves = [group.create_task(eve(number)) for number in range(SOCKETS)]
            for event in stood:
                await event.wait()
            async with socket(server, token("ann"), MESSAGES) as ann:
                await run(client, 'mutation { revokeAccess(author: "eve") { author } }')
                revoked_at = time.monotonic()
                ends = await asyncio.gather(*eves)
                assert {code for _, code in ends} == {4403}
                assert max(moment for moment, _ in ends) - revoked_at < 1.0
                await run(client, 'mutation { postMessage(channelId: "general", author: "mod", content: "x") { id } }')
                assert json.loads(await ann.recv())["payload"]["data"]["messages"]["content"] == "x"
        posting = {"query": 'mutation { postMessage(channelId: "general", author: "eve", content: "x") { id } }'}
        for _ in range(SOCKETS):
            # A connection each, so that every worker is asked.
            eve_header = {"authorization": f"Bearer {token('eve')}"}
            async with httpx.AsyncClient(base_url=server.url, headers=eve_header) as client:
                refused = (await client.post("/graphql", json=posting)).json()
                assert refused["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_changes_at_any_worker_are_seen_at_all_and_old_text_at_none(tmp_path: Path) -> None:
    async with WorkerServer(tmp_path, workers=WORKERS) as server:
        clients = await server.at_each()
        held = [HeldMessages() for _ in range(SOCKETS)]
        done = [asyncio.Event() for _ in range(SOCKETS)]
        stood = [asyncio.Event() for _ in range(SOCKETS)]

        async def follow(number: int) -> None:
            async with socket(server, None, MESSAGES, CHANGES) as connection:
                stood[number].set()
                async for frame in connection:
                    data = json.loads(frame)["payload"]["data"]
                    if "messages" in data:
                        held[number].take_message(data["messages"])
                    else:
                        held[number].take_change(data["changes"])
                        if data["changes"]["kind"] == "ERASED":
                            done[number].set()

        followers = [asyncio.create_task(follow(number)) for number in range(SOCKETS)]
        for event in stood:
            await event.wait()
        posting = 'mutation { postMessage(channelId: "general", author: "a", content: "Once", complete: false) { id } }'
        grown = (await run(clients[0], posting))["id"]
        appending = """mutation ($id: ID!, $revision: Int!, $piece: String!, $complete: Boolean!) {
          appendToMessage(id: $id, revision: $revision, piece: $piece, complete: $complete) { revision }
        }"""
        whole = "Once"
        for n in range(20):
            client = clients[n % len(clients)]
            await run(client, appending, id=grown, revision=n, piece=f" {n}", complete=n == 19)
            whole += f" {n}"
        secret = (await run(clients[0], posting.replace("Once", "a secret").replace(", complete: false", "")))["id"]
        reading = f'query {{ channel(id: "general") {{ messages(last: 50) {{ edges {{ node {FIELDS} }} }} }} }}'
        for client in clients:
            assert "a secret" in json.dumps(await run(client, reading))  # and so it is in what each worker keeps
        await run(clients[1], "mutation ($id: ID!) { eraseMessage(id: $id) { revision } }", id=secret)
        async with asyncio.timeout(10):
            for event in done:
                await event.wait()
        for client in clients:
            page = await run(client, reading)
            assert "a secret" not in json.dumps(page)
            assert [edge["node"]["content"] for edge in page["messages"]["edges"]] == [whole, ""]
        for follower in followers:
            follower.cancel()
        await asyncio.gather(*followers, return_exceptions=True)
        for each in held:
            assert {id_: m["content"] for id_, m in each.messages.items()} == {grown: whole, secret: ""}
            assert each.unsure == set()
        for client in clients:
            await client.aclose()
