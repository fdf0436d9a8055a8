"""The three examples of docs/auth.md: its tokens, and what the page says of them."""

import json
import re
from typing import Any

import pytest

from tests.docs.blocks import REPOSITORY
from tests.fakes import fill
from tests.transports.graphql_ws_client import SUBSCRIBE, operation
from tests.transports.live_server import Closed
from tests.transports.test_revocation import LIST, REVOKE, Server, code, guarded, ping

PAGE = (REPOSITORY / "docs" / "auth.md").read_text()
POST = 'mutation ($c: ID!, $a: String!) { postMessage(channelId: $c, author: $a, content: "x") { sequence } }'
COUNT = "query ($c: ID!) { channel(id: $c) { lastSequence } }"


def tokens_of(heading: str) -> list[dict[str, Any]]:
    """The claims that the page shows under a heading."""
    section = PAGE.split(f"### {heading}\n")[1].split("\n## ")[0].split("\n### ")[0]
    return [json.loads(block) for block in re.findall(r"```json\n(.*?)```", section, re.S)]


@pytest.fixture
def ann() -> dict[str, Any]:
    return tokens_of("A read-only channel")[0]


async def test_read_only_channel(ann: dict[str, Any]) -> None:
    _, newsroom = tokens_of("A read-only channel")
    async with guarded() as server:
        reading = await server.acknowledged(**ann)
        await reading.send(operation("1", SUBSCRIBE, channel="news"))
        await ping(reading)
        assert code(await server.run(POST, ann, c="news", a="ann")) == "FORBIDDEN"
        assert (await server.run(POST, newsroom, c="news", a="editor"))["data"]["postMessage"]["sequence"] == 1
        assert (await reading.expect())["type"] == "next"
        assert (await server.run(COUNT, newsroom, c="news"))["data"]["channel"]["lastSequence"] == 0
        assert (await server.run(COUNT, ann, c="news"))["data"]["channel"]["lastSequence"] == 1
        assert "errors" not in await server.run(POST, ann, c="team-a", a="ann")
        await reading.close()


async def test_moderators(ann: dict[str, Any]) -> None:
    (mona,) = tokens_of("Moderators")
    async with guarded() as server:
        assert "errors" not in await server.run(REVOKE, mona, author="ann", channel="team-a")
        assert code(await server.run(POST, ann, c="team-a", a="ann")) == "FORBIDDEN"
        assert "errors" not in await server.run(POST, ann, c="team-b", a="ann")
        for channel in ("news", None):
            assert code(await server.run(REVOKE, mona, author="ann", channel=channel)) == "FORBIDDEN"
        await server.revoke("bob", channel="news")
        listed = (await server.run(LIST, mona))["data"]["revocations"]["edges"]
        assert [edge["node"]["channelId"] for edge in listed] == ["team-a"]


async def test_throwing_somebody_out(ann: dict[str, Any]) -> None:
    (admin,) = tokens_of("Throwing somebody out")
    async with guarded() as server:
        await fill(server.chat, "team-a", 1)
        assert (await server.run(COUNT, admin, c="team-a"))["data"]["channel"]["lastSequence"] == 0
        opened = await server.acknowledged(**ann)
        assert "errors" not in await server.run(REVOKE, admin, author="ann")
        assert await opened.expect_close() == Closed(4403, "Forbidden")
        assert code(await server.run(COUNT, {**ann, "jti": "fresh"}, c="team-a")) == "FORBIDDEN"
        assert await server.restore("ann")
        assert (await server.run(COUNT, ann, c="team-a"))["data"]["channel"]["lastSequence"] == 1


async def test_client_that_is_made_to_come_again_loses_nothing(ann: dict[str, Any]) -> None:
    """Revoked and restored five times while messages are posted; it resumes after its newest cursor."""
    async with guarded() as server:
        document = (
            "subscription ($c: ID!, $after: Cursor) { messages(channelId: $c, after: $after) { sequence cursor } }"
        )
        heard, cursor = [], (await _head(server, ann))
        for turn in range(5):
            opened = await server.acknowledged(**ann, jti=str(turn))
            await opened.send(operation("1", document, c="news", after=cursor))
            await fill(server.chat, "news", 7, author="bob")
            while len(heard) < 7 * turn + 5:  # Not all of them: the rest is on its way when the socket ends.
                message = (await opened.expect())["payload"]["data"]["messages"]
                heard.append(message["sequence"])
                cursor = message["cursor"]
            await server.revoke("ann")
            await fill(server.chat, "news", 1, author="bob")
            assert await server.restore("ann")
            while not isinstance(frame := await opened.receive(), Closed):
                if frame["type"] == "next":
                    message = frame["payload"]["data"]["messages"]
                    heard.append(message["sequence"])
                    cursor = message["cursor"]
            assert frame.code == 4403
            opened.writer.close()
        opened = await server.acknowledged(**ann)
        await opened.send(operation("1", document, c="news", after=cursor))
        while len(heard) < 40:
            heard.append((await opened.expect())["payload"]["data"]["messages"]["sequence"])
        assert heard == list(range(1, 41))
        await opened.close()


async def _head(server: Server, claims: dict[str, Any]) -> str:
    result = await server.run('{ channel(id: "news") { headCursor } }', claims)
    return str(result["data"]["channel"]["headCursor"])
