"""What was erased is in no object that lives in the node: not in a cache, a queue, or what is still to be sent."""

import asyncio
import gc
import uuid
from pathlib import Path

from changes import ChangeDraft, MessageChange, MessageChangeKind
from delivery.hubs import Hubs
from message_log.sql import SqlMessageLog
from messages import Draft, Message
from tests.delivery.recorder import Recorder


def living(needle: bytes) -> list[object]:
    """Strings and bytes that contain `needle` and that some object known to the collector refers to."""
    gc.collect()
    found: dict[int, object] = {}
    for holder in gc.get_objects():
        for each in gc.get_referents(holder):
            if (isinstance(each, bytes | bytearray) and needle in each) or (
                isinstance(each, str) and needle.decode() in each
            ):
                found[id(each)] = each
    return [each for each in found.values() if each is not needle]


def render(entry: Message | MessageChange) -> bytes:
    content = entry.content if isinstance(entry, Message) else entry.piece or entry.content
    return (content or "").encode()


async def test_erased_text_is_in_no_living_object(tmp_path: Path) -> None:
    log = SqlMessageLog(f"sqlite:///{tmp_path}/log.db")
    hubs = Hubs(log)
    await log.open(hubs)
    await hubs.start()
    needle = uuid.uuid4().hex.encode()
    slow = []
    for hub in (hubs.messages, hubs.changes):
        for ready in (True, False):
            sink = Recorder()
            if not ready:
                sink.slow()
                slow.append(sink)
            await hub.subscribe("c", 0, cohort="same", filter=None, render=render, sink=sink)

    async def life() -> None:
        await log.append(Draft("c", "ada", needle.decode(), complete=False))
        for number in range(20):
            piece = f"{number} {needle.decode()} "
            await log.change(ChangeDraft("c", 1, MessageChangeKind.APPENDED, revision=number, text=piece))
        await log.append(Draft("c", "ada", "the next"))

    await life()
    reader = Recorder()
    await hubs.changes.subscribe("c", 0, cohort="other", filter=None, render=render, sink=reader)
    await reader.reached(20)
    assert living(needle)
    await log.change(ChangeDraft("c", 1, MessageChangeKind.ERASED))
    for sink in slow:
        sink.fast()
    while slow[0].batches == 0 or len(slow[1].messages) < 21:
        await asyncio.sleep(0.001)
    assert needle not in b"".join(slow[0].payloads + slow[1].payloads), "a slow subscriber was sent what was erased"
    for channel in [*hubs.messages.channels.values(), *hubs.changes.channels.values()]:
        for cohort in channel.cohorts.values():
            for member in cohort.members:
                sink = member.sink
                assert isinstance(sink, Recorder)
                sink.messages.clear()  # What a client was sent before is the client's.
                sink.payloads.clear()
    assert living(needle) == []
    await hubs.stop()
    await log.close()
