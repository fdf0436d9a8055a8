"""Two nodes on one PostgreSQL log: what one changes, the other shows, hint lost or not."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from changes import ChangeDraft, MessageChange, MessageChangeKind
from delivery.hubs import Hubs
from delivery.results import Render
from message_log.sql import SqlMessageLog
from messages import Draft, Message
from resolvers.erasing import erase_author
from tests.delivery.recorder import Recorder

Node = tuple[SqlMessageLog, Hubs]
EDITED, ERASED = MessageChangeKind.EDITED, MessageChangeKind.ERASED


@pytest.fixture(params=["hints", "no hints"])
async def nodes(request: pytest.FixtureRequest, postgres_url: str) -> AsyncIterator[tuple[Node, Node]]:
    made = []
    for _ in range(2):
        log = SqlMessageLog(postgres_url)
        hubs = Hubs(log, sweep_interval_seconds=0.05)
        await log.open(hubs)
        await hubs.start()
        made.append((log, hubs))
    if request.param == "no hints":
        for log, _ in made:
            assert log._parts is not None
            assert log._parts.hints is not None
            await log._parts.hints.stop()
    yield made[0], made[1]
    for log, hubs in made:
        await hubs.stop()
        await log.close()


def render(message: Message) -> bytes:
    return f"{message.sequence}:{message.content}".encode()


async def follow(hubs: Hubs, position: int, render: Render = render) -> Recorder:
    sink = Recorder()
    await hubs.messages.subscribe("c", position, cohort="same", filter=None, render=render, sink=sink)
    return sink


async def until(sink: Recorder, count: int) -> list[bytes]:
    while len(sink.payloads) < count:
        await asyncio.sleep(0.001)
    return sink.payloads


async def test_other_node_sends_nobody_what_was_edited_or_erased(nodes: tuple[Node, Node]) -> None:
    (log, hubs), (_, others) = nodes
    for number in range(1, 41):
        await log.append(Draft("c", "ada", f"secret {number}"))
    # The other node keeps them: in its tail, in its results, in its pages.
    await until(await follow(others, 0), 40)
    await until(await follow(hubs, 0), 40)
    for number in range(1, 41, 2):
        await log.change(ChangeDraft("c", number, EDITED, text="edited"))
        await log.change(ChangeDraft("c", number + 1, ERASED))
    expected = [f"{n}:{'edited' if n % 2 else ''}".encode() for n in range(1, 41)]
    assert await until(await follow(hubs, 0), 40) == expected  # here at once
    changes = Recorder()
    start = 0
    await others.changes.subscribe("c", start, cohort="c", filter=None, render=lambda c: b"", sink=changes)
    while len(changes.messages) < 40:
        await asyncio.sleep(0.001)
    # Whoever has heard of the changes there is sent nothing older any more.
    assert await until(await follow(others, 0), 40) == expected
    assert await until(await follow(others, 17), 23) == expected[17:]


async def test_other_node_is_right_after_a_sweep_although_nobody_follows_changes_there(
    nodes: tuple[Node, Node],
) -> None:
    (log, _), (_, others) = nodes
    await log.append(Draft("c", "ada", "secret"))
    keeping = await follow(others, 0)
    await until(keeping, 1)
    await log.change(ChangeDraft("c", 1, ERASED))
    async with asyncio.timeout(5):
        while (await until(await follow(others, 0), 1)) != [b"1:"]:
            await asyncio.sleep(0.01)


async def test_name_that_was_taken_is_sent_by_no_node_after_a_sweep(nodes: tuple[Node, Node]) -> None:
    (log, _), (_, others) = nodes
    await log.append(Draft("c", "ada", "a message"))
    # By somebody who has posted nothing there: so no change tells that the name went.
    await log.change(ChangeDraft("c", 1, EDITED, by="eve", text="corrected"))

    def show(change: MessageChange) -> bytes:
        return change.author.encode()

    async def changes() -> Recorder:
        sink = Recorder()
        await others.changes.subscribe("c", 0, cohort="same", filter=None, render=show, sink=sink)
        return sink

    keeping = await changes()
    assert await until(keeping, 1) == [b"eve"]
    await asyncio.sleep(0.2)  # The other node has looked since it began, and keeps the change.
    assert await until(await changes(), 1) == [b"eve"]
    await erase_author(log, "eve", by=None)
    async with asyncio.timeout(5):
        while await until(await changes(), 1) != [b"erased"]:
            await asyncio.sleep(0.01)
