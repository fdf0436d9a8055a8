"""A separate process that appends until it is killed, and writes into a pipe what was acknowledged."""

import asyncio
from multiprocessing.connection import Connection
from uuid import uuid4

from message_log.sql import SqlMessageLog
from messages import Draft
from tests.message_log.recorder import Recorder


def run(url: str, acknowledged: Connection) -> None:
    asyncio.run(_append(url, acknowledged))


async def _append(url: str, acknowledged: Connection) -> None:
    log = SqlMessageLog(url)
    await log.open(Recorder())

    async def poster(author: str) -> None:
        while True:
            message = (await log.append(Draft("general", author, uuid4().hex))).message
            acknowledged.send((message.sequence, message.content))

    await asyncio.gather(*(poster(f"poster{i}") for i in range(16)))
