"""The nginx configuration that is shipped, in a real nginx: WebSocket, event stream, posts, a sub-path, no metrics."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.server_process import REPOSITORY, ServerProcess, free_port, running

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
pytestmark = pytest.mark.skipif(NGINX is None, reason="no nginx on this machine (Debian: apt-get install nginx-light)")

QUERY = 'subscription { messages(channelId: "general") { sequence content } }'
POST = (
    'mutation ($content: String!) { postMessage(channelId: "general", author: "ann", content: $content) { sequence } }'
)


class Proxy:
    """Where nginx listens for the two names of the configuration."""

    def __init__(self, root: str, below: str) -> None:
        self.root = root
        self.below = below


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[Proxy]:
    root_port, below_port = free_port(), free_port()
    root, below = f"http://127.0.0.1:{root_port}", f"http://127.0.0.1:{below_port}"
    server = ServerProcess(tmp_path, trusted_proxies="127.0.0.1", allowed_origins=f"{root},{below}", log_format="json")
    shipped = (REPOSITORY / "deploy" / "nginx.conf").read_text()
    ports = iter((root_port, below_port))
    shipped = re.sub(r"listen 80;", lambda _: f"listen 127.0.0.1:{next(ports)};", shipped)
    shipped = shipped.replace("127.0.0.1:8010", f"127.0.0.1:{server.port}")
    shipped = shipped.replace("/var/log/nginx/raqcoon.log", str(tmp_path / "access.log"))
    folders = "".join(
        f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"pid {tmp_path}/nginx.pid;\nerror_log {tmp_path}/error.log;\ndaemon off;\nmaster_process off;\n"
        f"events {{ worker_connections 256; }}\nhttp {{\n{folders}{shipped}\n}}\n"
    )
    (tmp_path / "nginx.conf").write_text(whole)
    async with running(server):
        nginx = await asyncio.create_subprocess_exec(
            str(NGINX), "-p", str(tmp_path), "-c", str(tmp_path / "nginx.conf")
        )
        try:
            async with httpx.AsyncClient() as client, asyncio.timeout(20):
                while True:
                    try:
                        await client.get(f"{root}/healthz")
                        break
                    except httpx.ConnectError:
                        assert nginx.returncode is None, (tmp_path / "error.log").read_text()
                        await asyncio.sleep(0.05)
            yield Proxy(root, f"{below}/chat")
        finally:
            nginx.terminate()
            await nginx.wait()


async def post(base: str, content: str) -> int:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{base}/graphql", json={"query": POST, "variables": {"content": content}})
    return int(answer.json()["data"]["postMessage"]["sequence"])


async def test_websocket_and_event_stream_pass_at_once_at_the_root_and_under_a_path(proxy: Proxy) -> None:
    for base in (proxy.root, proxy.below):
        socket_url = f"{base.replace('http', 'ws')}/graphql"
        async with connect(
            socket_url, subprotocols=[Subprotocol("graphql-transport-ws")], origin=base.removesuffix("/chat")
        ) as socket:  # type: ignore[arg-type]
            await socket.send('{"type":"connection_init"}')
            assert json.loads(await socket.recv())["type"] == "connection_ack"
            await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": QUERY}}))
            await socket.send('{"type":"ping"}')
            assert json.loads(await socket.recv())["type"] == "pong"
            request = {"json": {"query": QUERY}, "headers": {"accept": "text/event-stream"}}
            async with httpx.AsyncClient() as client, client.stream("POST", f"{base}/graphql", **request) as stream:  # type: ignore[arg-type]
                assert stream.headers["content-type"].startswith("text/event-stream")
                sequence = await post(base, "through nginx")
                frame = json.loads(await socket.recv())
                assert frame["payload"]["data"]["messages"] == {"sequence": sequence, "content": "through nginx"}
                # Were events collected, nothing would come before the stream's end, and the test's time would be up.
                async for line in stream.aiter_lines():
                    if line.startswith("data: "):
                        assert json.loads(line.removeprefix("data: "))["data"]["messages"]["sequence"] == sequence
                        break


async def test_plain_websocket_and_rest_pass_under_a_path(proxy: Proxy) -> None:
    async with connect(f"{proxy.below.replace('http', 'ws')}/api/ws/general") as socket, httpx.AsyncClient() as client:
        body = {"channel_id": "general", "author": "bob", "content": "by REST"}
        assert (await client.post(f"{proxy.below}/api/messages", json=body)).status_code == 200
        assert json.loads(await socket.recv())["data"]["content"] == "by REST"


async def test_pages_and_their_assets_are_found_at_the_root_and_under_a_path(proxy: Proxy) -> None:
    async with httpx.AsyncClient() as client:
        for base in (proxy.root, proxy.below):
            for page, accept in (("/", "text/html"), ("/graphql", "text/html")):
                found = await client.get(f"{base}{page}", headers={"accept": accept})
                assert found.status_code == 200
                assets = [a for a in re.findall(r'(?:src|href)="([^"]+)"', found.text) if a.endswith((".js", ".css"))]
                assert assets
                for asset in assets:
                    assert (await client.get(str(httpx.URL(f"{base}{page}").join(asset)))).status_code == 200


async def test_metrics_are_hidden_and_no_log_line_holds_a_query(proxy: Proxy, tmp_path: Path) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{proxy.root}/metrics")).status_code == 404
        assert (await client.get(f"{proxy.below}/metrics")).status_code == 404
        await client.get(f"{proxy.root}/api/channels?token=secret")
    log = tmp_path / "access.log"
    async with asyncio.timeout(20):
        while "/api/channels" not in log.read_text():  # nginx writes the line after it has sent the answer.
            await asyncio.sleep(0.01)
    assert "secret" not in log.read_text()
