"""The agent, and the client that it is built on, against a server that is killed while they follow and post."""

import asyncio
from contextlib import aclosing

import pytest
from gql import gql

from examples.agent import run
from examples.channel_client import ask, follow, post
from tests.server_process import ServerProcess

MESSAGE = gql("query ($id: ID!) { message(id: $id) { content complete } }")
STOP = gql("mutation ($id: ID!) { completeMessage(id: $id) { revision } }")
KILLS = 3
POSTS = 60


def endpoint(server: ServerProcess) -> str:
    return f"{server.url}/graphql"


@pytest.mark.timeout(120)
async def test_follow_and_post_server_killed_again_and_again_miss_and_repeat_nothing(server: ServerProcess) -> None:
    head = await post(endpoint(server), channelId="den", author="seed", content="first", idempotency_key="first")
    received: list[str] = []
    halfway = [asyncio.Event() for _ in range(KILLS)]

    async def listen() -> None:
        async with aclosing(follow(endpoint(server), "den", head["cursor"])) as messages:
            async for message in messages:
                received.append(message["content"])
                assert message["sequence"] == len(received) + 1
                if len(received) == POSTS:
                    return

    async def write() -> None:
        for number in range(POSTS):
            if number % (POSTS // KILLS) == POSTS // KILLS // 2:
                halfway[number // (POSTS // KILLS)].set()
            await post(
                endpoint(server), channelId="den", author="bot", content=str(number), idempotency_key=f"post {number}"
            )

    async def kill() -> None:
        for moment in halfway:
            await moment.wait()
            await server.kill()
            await server.start()

    await asyncio.gather(listen(), write(), kill())
    assert received == [str(number) for number in range(POSTS)]


async def test_run_bot_restarted_answers_each_mention_once(server: ServerProcess) -> None:
    start = await post(endpoint(server), channelId="den", author="mara", content="hello", idempotency_key="1")
    for number in (2, 3):
        content = f"@scribe question {number}"
        await post(endpoint(server), channelId="den", author="mara", content=content, idempotency_key=f"{number}")
    # The second bot has forgotten where the first one was, and reads everything again.
    bots = [asyncio.create_task(run(endpoint(server), "den", start["cursor"])) for _ in range(2)]
    answers = []
    try:
        async with aclosing(follow(endpoint(server), "den", start["cursor"])) as messages:
            async for message in messages:
                if message["author"] == "scribe":
                    answers.append(message)
                if len(answers) == 2:
                    break
        written = [await whole(endpoint(server), answer["id"]) for answer in answers]
        closing = await post(endpoint(server), channelId="den", author="mara", content="bye", idempotency_key="4")
    finally:
        for bot in bots:
            bot.cancel()
        await asyncio.wait(bots)
    assert closing["sequence"] == 6
    assert {answer["lane"] for answer in answers} == {"answers"}
    assert written == ["@mara You said 3 words; I would need a model to say more.\n"] * 2


async def whole(url: str, id_: str) -> str:
    """What a message says once it is complete."""
    while True:
        message = (await ask(url, MESSAGE, id=id_))["message"]
        if message["complete"]:
            return str(message["content"])
        await asyncio.sleep(0.02)


async def test_run_bot_stops_when_a_reader_completes_its_answer(server: ServerProcess) -> None:
    start = await post(endpoint(server), channelId="den", author="mara", content="hello", idempotency_key="1")
    await post(endpoint(server), channelId="den", author="mara", content="@scribe go", idempotency_key="2")
    bot = asyncio.create_task(run(endpoint(server), "den", start["cursor"]))
    try:
        async with aclosing(follow(endpoint(server), "den", start["cursor"])) as messages:
            async for message in messages:
                if message["author"] == "scribe":
                    break
        await ask(endpoint(server), STOP, id=message["id"])
        stopped = await whole(endpoint(server), message["id"])
        await post(endpoint(server), channelId="den", author="mara", content="@scribe again", idempotency_key="3")
        while (second := (await ask(endpoint(server), MESSAGE, id="den:5"))["message"]) is None:
            await asyncio.sleep(0.02)
        assert second["content"].startswith("@mara")  # the bot lives on
        assert await whole(endpoint(server), message["id"]) == stopped
        assert len(stopped) < len("@mara You said 2 words; I would need a model to say more.")
    finally:
        bot.cancel()
        await asyncio.wait([bot])
