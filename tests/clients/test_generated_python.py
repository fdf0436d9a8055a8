"""A client that ariadne-codegen makes with the settings of docs/clients/others.md asks, posts and subscribes."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from schema.operations import Operations
from tests import node
from tests.fakes import fill, memory_chat
from tests.transports.live_server import serve, until
from transports.app import build_app

PAGE = node.REPOSITORY / "docs" / "clients" / "others.md"
SCHEMA = node.REPOSITORY / "schema" / "schema.graphql"
REQUIREMENT = "ariadne-codegen[subscriptions]==0.19.0"
# Generator and client run in an environment of their own, beside which the project needs no pin of theirs.
ENVIRONMENT = ("run", "--quiet", "--isolated", "--no-project", "--python", sys.executable, "--with", REQUIREMENT)

QUERIES = """
fragment Post on Message { sequence cursor author content timestamp }
query Timeline($channelId: ID!) {
  channel(id: $channelId) { headCursor messages(last: 50) { edges { node { ...Post } } } }
}
mutation PostMessage($channelId: ID!, $author: String!, $content: String!, $idempotencyKey: String) {
  postMessage(channelId: $channelId, author: $author, content: $content, idempotencyKey: $idempotencyKey) { ...Post }
}
subscription Messages($channelId: ID!, $after: Cursor) {
  messages(channelId: $channelId, after: $after) { ...Post }
}
"""

PROGRAM = """
import asyncio, contextlib, datetime, json, sys
from raqcoon_client import Client, GraphQLClientGraphQLMultiError

async def main():
    async with Client(url=f"http://{sys.argv[1]}/graphql", ws_url=f"ws://{sys.argv[1]}/graphql") as client:
        channel = (await client.timeline("general")).channel
        told = [[edge.node.content for edge in channel.messages.edges]]
        for _ in range(2):
            posted = (await client.post_message("general", "ann", "Hello!", idempotency_key="key")).post_message
            told.append([posted.sequence, posted.timestamp.utcoffset() == datetime.timedelta()])
        async with contextlib.aclosing(client.messages("general", after=channel.head_cursor)) as stream:
            async for event in stream:
                told.append([event.messages.sequence, event.messages.content])
                if event.messages.content == "and bye":
                    break
                await client.post_message("general", "ann", "and bye")
        try:
            async for event in client.messages("general", after="no cursor"):
                pass
        except GraphQLClientGraphQLMultiError as error:
            told.append(error.errors[0].extensions["code"])
    print(json.dumps(told))

asyncio.run(main())
"""


def uv(*arguments: str, cwd: Path) -> str:
    command = (os.environ.get("UV", "uv"), *arguments)
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(120)
async def test_client_of_ariadne_codegen_asks_posts_and_subscribes(tmp_path: Path) -> None:
    part = PAGE.read_text().partition("## ariadne-codegen\n")[2].partition("\n## ")[0]
    (settings,) = re.findall(r"```toml\n(.*?)```", part, re.S)
    (tmp_path / "pyproject.toml").write_text(settings)
    (tmp_path / "queries.graphql").write_text(QUERIES)
    (tmp_path / "program.py").write_text(PROGRAM)
    shutil.copy(SCHEMA, tmp_path)
    await asyncio.to_thread(uv, *ENVIRONMENT, "ariadne-codegen", cwd=tmp_path)
    package = tmp_path / "raqcoon_client"
    assert "head_cursor: str" in (package / "timeline.py").read_text()
    assert "timestamp: datetime" in (package / "fragments.py").read_text()

    async with memory_chat() as chat:
        await fill(chat, "general", 1)
        app = build_app(chat, Operations())
        async with serve(app) as port:
            address = f"127.0.0.1:{port}"
            printed = await asyncio.to_thread(uv, *ENVIRONMENT, "python", "program.py", address, cwd=tmp_path)
            await until(lambda: not len(app.connections))
    assert json.loads(printed) == [
        ["1"],
        [2, True],
        [2, True],
        [2, "Hello!"],
        [3, "and bye"],
        "CURSOR_INVALID",
    ]
