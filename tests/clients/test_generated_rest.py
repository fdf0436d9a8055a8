"""Clients that are generated from `/openapi.json`, in TypeScript and Python, post and read."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from schema.operations import Operations
from tests import node
from tests.clients.workspace import HERE, NODE_FLAGS, make_workspace
from tests.fakes import memory_chat
from tests.transports.live_server import serve, until
from transports.app import build_app

PROGRAM = """
import asyncio, json, sys
from raqcoon_rest import Client
from raqcoon_rest.api.default import get_health, get_summary, list_channels, list_messages, post_message
from raqcoon_rest.models import HTTPValidationError, Messages, Post, Posted

client = Client(base_url=sys.argv[1])

async def main():
    body = Post(channel_id="general", author="ann", content="Hello!", token_count=2)
    posted = await post_message.asyncio(client=client, body=body, idempotency_key="key")
    assert isinstance(posted, Posted), posted
    repeated = await post_message.asyncio(client=client, body=body, idempotency_key="key")
    assert repeated == posted
    found = await list_messages.asyncio(client=client, channel_id="general", limit=10)
    assert isinstance(found, Messages)
    assert found.messages == [posted.message]
    assert posted.message.timestamp.utcoffset().total_seconds() == 0
    refused = await list_messages.asyncio(client=client, channel_id="a b")
    assert isinstance(refused, HTTPValidationError), refused
    channels = await list_channels.asyncio(client=client)
    summary = await get_summary.asyncio(client=client)
    health = await get_health.asyncio(client=client)
    print(json.dumps([posted.message.sequence, channels.channels, summary.summary.total_tokens, health.status]))

asyncio.run(main())
"""


def run(*command: str | Path, cwd: Path, **options: object) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=50, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture
async def description(tmp_path: Path) -> Path:
    """What a server says of itself, in a file."""
    path = tmp_path / "openapi.json"
    async with memory_chat() as chat:
        transport = httpx.ASGITransport(build_app(chat, Operations()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8010") as client:
            path.write_bytes((await client.get("/openapi.json")).content)
    return path


async def against_a_server(*command: str | Path, cwd: Path, **options: object) -> object:
    """What a program prints as JSON; its last argument is the server's URL."""
    async with memory_chat() as chat:
        app = build_app(chat, Operations())
        async with serve(app) as port:
            printed = await asyncio.to_thread(run, *command, f"http://127.0.0.1:{port}", cwd=cwd, **options)
            await until(lambda: not len(app.connections))
    return json.loads(printed)


@pytest.mark.timeout(180)
async def test_client_of_openapi_typescript_is_typed_posts_and_reads(description: Path, tmp_path: Path) -> None:
    workspace = await asyncio.to_thread(make_workspace, tmp_path / "node")
    (workspace / "generated.ts").write_text((HERE / "generated.ts").read_text())
    binaries = workspace / "node_modules" / ".bin"
    environment = node.environment()
    run(binaries / "openapi-typescript", description, "--output", "rest.ts", cwd=workspace, env=environment)
    flags = ("--noEmit", "--strict", "--allowImportingTsExtensions", "--module", "nodenext", "--target", "es2024")
    run(
        binaries / "tsc",
        *flags,
        "--lib",
        "es2024,dom",
        "--skipLibCheck",
        "generated.ts",
        cwd=workspace,
        env=environment,
    )
    told = await against_a_server("node", *NODE_FLAGS, "generated.ts", cwd=workspace, env=environment)
    assert told == {"sequences": [1, 1], "listed": [["Hello!", None]], "status": 422, "cursors": ["string", ""]}


@pytest.mark.timeout(180)
async def test_client_of_openapi_python_client_posts_and_reads(description: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("package_name_override: raqcoon_rest\nproject_name_override: raqcoon-rest\n")
    generate = ("generate", "--path", description, "--config", "config.yaml", "--meta", "none", "--fail-on-warning")
    run(Path(sys.executable).with_name("openapi-python-client"), *generate, cwd=tmp_path)
    (tmp_path / "program.py").write_text(PROGRAM)
    told = await against_a_server(sys.executable, "program.py", cwd=tmp_path)
    assert told == [1, ["general"], 2, "ok"]
