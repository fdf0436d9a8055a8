"""The application as a whole: what lies where, origins on every path, and the one way in."""

import asyncio
from typing import Any

import httpx
import pytest

import resolvers.post_message
import schema.contract
import schema.posting
import transports.shims.calls
import transports.shims.plain_websocket
from messages import Message
from schema.operations import Operations
from tests.fakes import MemoryLog, memory_chat
from tests.transports.http_client import in_process, over_a_socket
from tests.transports.live_server import RawSocket, Refused, serve, until
from transports.app import build_app

EVIL = {"origin": "https://evil.example"}


async def test_liveness_and_readiness_differ_while_draining_and_without_a_log() -> None:
    async with in_process() as (chat, client):
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert isinstance(chat.log, MemoryLog)
        chat.log.failing = True
        assert (await client.get("/readyz")).status_code == 503
        chat.log.failing = False
        chat.accepting = False
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/api/nothing",
        "/graphql/",
        "/api",
        "/console/",
        "/console/nothing.js",
        "/console/../settings.py",
        "/console/%2e%2e/settings.py",
    ],
)
async def test_unknown_path_is_404(path: str) -> None:
    async with in_process() as (_, client):
        assert (await client.get(path)).status_code == 404


async def test_console_is_at_the_root() -> None:
    async with in_process() as (_, client):
        assert (await client.get("/")).headers["content-type"].startswith("text/html")


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/api/messages"), ("GET", "/api/messages"), ("OPTIONS", "/api/messages"), ("POST", "/graphql")],
)
async def test_foreign_origin_is_403_everywhere(method: str, path: str) -> None:
    async with in_process() as (_, client):
        response = await client.request(method, path, headers=EVIL)
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers


async def test_loopback_page_may_read_the_shims_answers() -> None:
    origin = {"origin": "http://localhost:3000"}
    async with in_process() as (_, client):
        preflight = await client.options("/api/messages", headers={**origin, "access-control-request-method": "POST"})
        assert preflight.status_code == 204
        assert "idempotency-key" in preflight.headers["access-control-allow-headers"]
        post = {"channel_id": "c", "author": "ann", "content": "x"}
        for response in (
            await client.get("/api/messages", headers=origin),
            await client.post("/api/messages", json=post, headers=origin),
            await client.post("/api/messages", json={}, headers=origin),
        ):
            assert response.headers["access-control-allow-origin"] == "http://localhost:3000"
            assert response.headers["vary"] == "Origin"


async def test_sockets_of_a_foreign_origin_are_refused() -> None:
    async with over_a_socket() as (_, client, _app):
        port = client.base_url.port
        assert port is not None
        for path in ("/graphql", "/api/ws/c"):
            with pytest.raises(Refused) as refusal:
                await RawSocket.open(port, path, subprotocol="graphql-transport-ws", headers=EVIL)
            assert refusal.value.status == 403
        with pytest.raises(Refused):
            await RawSocket.open(port, "/elsewhere")


async def test_every_post_comes_in_by_the_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """GraphQL over HTTP and a socket, REST and the plain WebSocket: each post calls `resolvers.post_message` once."""
    calls: list[dict[str, Any]] = []
    real = resolvers.post_message.post_message

    async def counted(chat: Any, viewer: Any, **arguments: Any) -> Message:
        calls.append(arguments)
        return await real(chat, viewer, **arguments)

    for module in (schema.contract, schema.posting, transports.shims.calls, transports.shims.plain_websocket):
        monkeypatch.setattr(module, "post_message", counted)
    mutation = 'mutation { postMessage(channelId: "c", author: "a", content: "x") { id } }'
    async with memory_chat() as chat, serve(build_app(chat, Operations())) as port:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            await client.post("/graphql", json={"query": mutation})
            assert len(calls) == 1
            await client.post("/api/messages", json={"channel_id": "c", "author": "a", "content": "x"})
            assert len(calls) == 2
        plain = await RawSocket.open(port, "/api/ws/c")
        await plain.send({"type": "message", "author": "a", "content": "x"})
        await until(lambda: len(calls) == 3)
        await plain.close()
        socket = await RawSocket.open(port, "/graphql", subprotocol="graphql-transport-ws")
        await socket.send({"type": "connection_init"})
        await socket.expect()
        await socket.send({"id": "1", "type": "subscribe", "payload": {"query": mutation}})
        assert (await socket.expect())["payload"] == {"data": {"postMessage": {"id": "c:4"}}}
        assert len(calls) == 4
        await socket.close()
        assert await chat.log.last_sequence("c") == 4


async def test_lifespan_is_answered() -> None:
    async with memory_chat() as chat:
        app = build_app(chat, Operations())
        events = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))
        sent: asyncio.Queue[Any] = asyncio.Queue()

        async def receive() -> Any:
            return next(events)

        await app({"type": "lifespan"}, receive, sent.put)
        assert [sent.get_nowait()["type"] for _ in range(2)] == [
            "lifespan.startup.complete",
            "lifespan.shutdown.complete",
        ]
