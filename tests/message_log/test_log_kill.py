"""What was acknowledged survives `kill -9` of the process that acknowledged it."""

import asyncio
import multiprocessing
import random

from message_log.sql import SqlMessageLog
from tests.message_log import appender
from tests.message_log.recorder import Recorder, everything

KILLS = 20


def append_and_be_killed(url: str, seconds: float) -> dict[int, str]:
    """What a process that appends for `seconds` after its first answer, and is then killed, had acknowledged."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.message_log.appender"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=appender.run, args=(url, sender))
    process.start()
    sender.close()
    acknowledged = {}
    try:
        acknowledged.update([receiver.recv()])
        process.join(seconds)
    finally:
        process.kill()
        process.join()
    try:
        while receiver.poll():
            acknowledged.update([receiver.recv()])
    except (EOFError, OSError):
        pass
    receiver.close()
    process.close()
    return acknowledged


async def test_killed_process_loses_nothing_acknowledged(log_url: str) -> None:
    acknowledged: dict[int, str] = {}
    for kill in range(KILLS):
        acknowledged |= await asyncio.to_thread(append_and_be_killed, log_url, random.uniform(0.0, 0.1))
        if kill % 5 == 4:
            log = SqlMessageLog(log_url)  # a killed server does not keep the file
            await log.open(Recorder())
            held = await everything(log)
            assert [message.sequence for message in held] == list(range(1, len(held) + 1))
            contents = {message.sequence: message.content for message in held}
            assert acknowledged.items() <= contents.items()
            assert len(set(contents.values())) == len(contents)
            assert await log.last_sequence("general") == len(held) == (await log.totals()).messages
            await log.close()
    assert len(acknowledged) > KILLS
