"""What docs/clients/others.md says of gateways: Hive Gateway, as a proxy and with a supergraph that Mesh composed."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from resolvers.chat import Chat
from tests import node
from tests.clients.recipes import SCHEMA, blocks, run
from tests.clients.workspace import HERE
from tests.transports.http_client import over_a_socket
from tests.transports.live_server import until
from tests.transports.tokens import SECRET, token
from transports.app import App
from transports.gate.identity import build_identity

PACKAGES = HERE / "gateway"
SUBSCRIBERS = 101
"""More than one WebSocket to the server may carry."""
HEADING = "Hive Gateway and Mesh"
HEAD = '{ channel(id: "general") { headCursor } }'
SUBSCRIBE = """subscription ($after: Cursor) {
  messages(channelId: "general", after: $after) { id sequence author content }
}"""
POST = """mutation ($content: String!) {
  postMessage(channelId: "general", author: "ann", content: $content) { id sequence timestamp }
}"""


@asynccontextmanager
async def guarded() -> AsyncIterator[tuple[Chat, App, str]]:
    """A server that wants tokens, and the URL of its GraphQL."""
    async with over_a_socket(authenticate=build_identity(secret=SECRET).authenticate) as (chat, client, app):
        yield chat, app, f"{client.base_url}/graphql"


def compose(directory: Path, endpoint: str) -> None:
    """Composes `supergraph.graphql` by the documented settings of Mesh, for a server at `endpoint`."""
    settings = blocks("text", HEADING)[1]
    assert "http://127.0.0.1:8010/graphql" in settings
    (directory / "mesh.config.ts").write_text(settings.replace("http://127.0.0.1:8010/graphql", endpoint))
    run(PACKAGES / "node_modules" / ".bin" / "mesh-compose", "-o", "supergraph.graphql", cwd=directory)


@asynccontextmanager
async def gateway(directory: Path, mode: str, endpoint: str, *, configured: bool = True) -> AsyncIterator[str]:
    """Yields the URL of a gateway in front of `endpoint`, with the documented settings unless told otherwise."""
    await asyncio.to_thread(node.install, PACKAGES)
    (directory / "node_modules").symlink_to(PACKAGES / "node_modules")
    (directory / "package.json").write_text('{"type": "module"}')
    for path in (SCHEMA, PACKAGES / "start.mjs"):
        shutil.copy(path, directory)
    if mode == "supergraph":
        await asyncio.to_thread(compose, directory, endpoint)
    # What the settings import is the command line's package, which is not installed; it only types them.
    imported = "import { defineConfig } from '@graphql-hive/gateway';\n"
    settings = blocks("text", HEADING)[0]
    assert settings.startswith(imported)
    config = directory / "gateway.config.mjs"
    config.write_text(settings.replace(imported, "const defineConfig = (config) => config;\n"))
    process = await asyncio.create_subprocess_exec(
        shutil.which("node", path=node.environment()["PATH"]) or "node",
        "start.mjs",
        mode,
        "schema.graphql" if mode == "proxy" else "supergraph.graphql",
        str(config) if configured else "",
        endpoint,
        cwd=directory,
        env=node.environment(),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        port = await process.stdout.readline()
        yield f"http://127.0.0.1:{int(port)}/graphql"
    finally:
        process.kill()
        await process.wait()


class GatewayClient:
    """A client of a gateway, with a token of `ann`."""

    def __init__(self, url: str) -> None:
        self.url = url
        limits = httpx.Limits(max_connections=None)
        headers = {"authorization": f"Bearer {token()}"}
        self.http = httpx.AsyncClient(timeout=20, limits=limits, headers=headers)

    async def ask(self, query: str, **variables: Any) -> Any:
        answer = (await self.http.post(self.url, json={"query": query, "variables": variables})).json()
        assert "errors" not in answer, answer
        return answer["data"]

    @asynccontextmanager
    async def events(self, after: str) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The data of the events of a subscription."""
        operation = {"query": SUBSCRIBE, "variables": {"after": after}}
        async with self.http.stream(
            "POST", self.url, json=operation, headers={"accept": "text/event-stream"}
        ) as response:
            assert response.headers["content-type"] == "text/event-stream"
            lines = response.aiter_lines()
            yield (json.loads(line.removeprefix("data:")) async for line in lines if line.startswith("data: "))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("mode", ["proxy", "supergraph"])
async def test_gateway_asks_posts_subscribes_and_passes_the_token_on(mode: str, tmp_path: Path) -> None:
    async with guarded() as (chat, app, endpoint), gateway(tmp_path, mode, endpoint) as url:
        client = GatewayClient(url)
        async with client.http:
            before = (await client.ask(HEAD))["channel"]["headCursor"]
            posted = (await client.ask(POST, content="first"))["postMessage"]
            assert (posted["id"], posted["sequence"]) == ("general:1", 1)
            found = await client.ask(
                '{ channel(id: "general") { messages(last: 3) { edges { node { id author content } } } } }'
            )
            node_of = {"id": "general:1", "author": "ann", "content": "first"}
            assert found["channel"]["messages"]["edges"] == [{"node": node_of}]
            # Each client has a stream of its own: it resumes from its cursor, then goes live.
            async with AsyncExitStack() as stack:
                streams = [await stack.enter_async_context(client.events(before)) for _ in range(SUBSCRIBERS)]
                for stream in streams:
                    assert (await anext(stream))["data"]["messages"]["content"] == "first"
                assert chat.hub.subscribers == SUBSCRIBERS
                await client.ask(POST, content="second")
                for stream in streams:
                    message = {"id": "general:2", "sequence": 2, "author": "ann", "content": "second"}
                    assert await anext(stream) == {"data": {"messages": message}}
            await until(lambda: chat.hub.subscribers == 0)
            # A server that drains cuts its streams. The gateway makes `complete` of that, without an error.
            async with client.events(before) as stream:
                for content in ("first", "second"):
                    assert (await anext(stream))["data"]["messages"]["content"] == content
                app.end_streams()
                assert [each async for each in stream] == []


@pytest.mark.timeout(180)
async def test_gateway_without_the_settings_passes_no_token_on(tmp_path: Path) -> None:
    async with guarded() as (_, _app, endpoint), gateway(tmp_path, "proxy", endpoint, configured=False) as url:
        client = GatewayClient(url)
        async with client.http:
            (error,) = (await client.http.post(url, json={"query": HEAD})).json()["errors"]
            assert error["extensions"]["code"] == "UNAUTHENTICATED"
