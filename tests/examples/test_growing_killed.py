"""Messages grow while the server is killed again and again: every final text is byte for byte what was sent, in the log
and for every client that keeps up by the example's rule."""

import asyncio
import random
from typing import Any

import pytest
from gql import Client, GraphQLRequest, gql
from gql.transport.websockets import WebsocketsTransport

from examples.channel_client import LOST, append, ask, post
from examples.held_messages import HeldMessages
from tests.server_process import ServerProcess

MESSAGES, PIECES, FOLLOWERS, KILLS = 12, 50, 4, 3
OPEN = gql("""query { channel(id: "den") { changesCursor messages(first: 200) { edges { node {
    id content revision complete } } } } }""")
CHANGES = gql("""subscription ($after: Cursor!) { changes(channelId: "den", after: $after) {
    cursor sequence messageId kind revision piece content timestamp } }""")


def piece(message: int, number: int) -> str:
    return random.Random(f"{message} {number}").choice(("token ", "é", "😀\n", '{}\\"', " ")) + str(number)


class Follower:
    """Opens the channel once, and follows its changes through every restart."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.held = HeldMessages()
        self.sequences: list[int] = []

    async def run(self) -> None:
        channel = (await ask(self._url, OPEN))["channel"]
        after = channel["changesCursor"]
        for edge in channel["messages"]["edges"]:
            self.held.take_message(edge["node"])
        while True:
            socket = WebsocketsTransport(self._url.replace("http", "ws", 1))
            try:
                async with Client(transport=socket) as session:
                    query = GraphQLRequest(CHANGES, variable_values={"after": after})
                    async for result in session.subscribe(query):
                        change: dict[str, Any] = result["changes"]
                        after = change["cursor"]
                        self.sequences.append(change["sequence"])
                        self.held.take_change(change)
            except LOST:
                pass
            await asyncio.sleep(0.1)


@pytest.mark.timeout(180)
async def test_growing_messages_end_byte_for_byte_as_they_were_sent_whatever_is_killed(server: ServerProcess) -> None:
    url = f"{server.url}/graphql"
    begun = [
        await post(url, channelId="den", author="bot", content=f"{n}:", complete=False, idempotency_key=str(n))
        for n in range(MESSAGES)
    ]
    followers = [Follower(url) for _ in range(FOLLOWERS)]
    following = [asyncio.create_task(follower.run()) for follower in followers]
    grown = 0
    moments = [asyncio.Event() for _ in range(KILLS)]

    async def grow(number: int, message: dict[str, Any]) -> None:
        nonlocal grown
        for count in range(PIECES):
            message = await append(url, message, piece(number, count), complete=count == PIECES - 1)
            grown += 1
            if grown % (MESSAGES * PIECES // KILLS) == MESSAGES * PIECES // KILLS // 2:
                moments[grown // (MESSAGES * PIECES // KILLS)].set()

    async def kill() -> None:
        for moment in moments:
            await moment.wait()
            await server.kill()
            await server.start()

    try:
        await asyncio.gather(kill(), *(grow(number, message) for number, message in enumerate(begun)))
        changes = MESSAGES * (PIECES + 1)
        for follower in followers:
            while len(follower.sequences) < changes:
                await asyncio.sleep(0.02)
    finally:
        for task in following:
            task.cancel()
        await asyncio.wait(following)
    expected = {
        message["id"]: f"{number}:" + "".join(piece(number, count) for count in range(PIECES))
        for number, message in enumerate(begun)
    }
    stored = (await ask(url, OPEN))["channel"]["messages"]["edges"]
    assert {edge["node"]["id"]: edge["node"]["content"] for edge in stored} == expected
    for follower in followers:
        assert follower.sequences == list(range(1, changes + 1))
        assert {id_: held["content"] for id_, held in follower.held.messages.items()} == expected
        assert all(held["complete"] for held in follower.held.messages.values())
        assert follower.held.unsure == set()
