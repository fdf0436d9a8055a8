"""A listener that records what it is told, and short functions to post."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from changes import MessageChange
from message_log.protocol import Appended, Commit
from message_log.sql import SqlMessageLog
from messages import Draft, Message, Revocation


class Recorder:
    """Records what a log tells it. `heard_something` is set when something comes from another process, `thrown_out` by
    every revocation, and `gap` when commits may have been missed."""

    def __init__(self) -> None:
        self.commits: list[list[Message]] = []
        self.hints: list[tuple[str, int]] = []
        self.changes: list[MessageChange] = []
        self.change_hints: list[tuple[str, int]] = []
        self.gap = asyncio.Event()
        self.from_elsewhere: list[Message] = []
        self.changes_from_elsewhere: list[MessageChange] = []
        self.dropped = 0
        self.heard_something = asyncio.Event()
        self.revocations: list[Revocation] = []
        self.thrown_out = asyncio.Event()

    def committed(self, commit: Commit) -> None:
        if commit.messages:
            self.commits.append(list(commit.messages))
        self.changes += commit.changes

    def hinted(self, channel_id: str, sequence: int) -> None:
        self.hints.append((channel_id, sequence))
        self.heard_something.set()

    def heard(self, commit: Commit) -> None:
        self.from_elsewhere += commit.messages
        self.changes_from_elsewhere += commit.changes
        self.heard_something.set()

    def misheard(self) -> None:
        self.dropped += 1
        self.heard_something.set()

    @property
    def reached(self) -> list[tuple[str, int]]:
        """The newest sequences of channels as other processes have told them, with messages or without."""
        return [*self.hints, *((message.channel_id, message.sequence) for message in self.from_elsewhere)]

    def hinted_changes(self, channel_id: str, sequence: int) -> None:
        self.change_hints.append((channel_id, sequence))
        self.heard_something.set()

    def revoked(self, revocations: Sequence[Revocation]) -> None:
        self.revocations += revocations
        self.thrown_out.set()

    def missed(self) -> None:
        self.gap.set()

    @property
    def messages(self) -> list[Message]:
        """All messages that the log has told, in order."""
        return [message for commit in self.commits for message in commit]


@asynccontextmanager
async def held_back(log: SqlMessageLog) -> AsyncIterator[None]:
    """What is posted meanwhile is committed together afterwards."""
    parts = log._parts
    assert parts is not None
    loop, begun, go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def hold() -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(5)

    waiting = asyncio.create_task(parts.writer.run(hold))
    await begun.wait()
    try:
        yield
        for _ in range(5):  # by then all tasks that were begun have handed over their posts
            await asyncio.sleep(0)
    finally:
        go_on.set()
        await waiting


async def post(log: SqlMessageLog, *contents: str, channel_id: str = "general", author: str = "ada") -> list[Message]:
    """Appends all of them at the same time, and returns the messages in the order of `contents`."""
    drafts = (Draft(channel_id, author, content) for content in contents)
    return [appended.message for appended in await append(log, *drafts)]


async def append(log: SqlMessageLog, *drafts: Draft) -> list[Appended]:
    """Appends all of them at the same time. Raises the first error."""
    return await asyncio.gather(*(log.append(draft) for draft in drafts))


async def everything(log: SqlMessageLog, channel_id: str = "general") -> list[Message]:
    """All messages of a channel that the log has."""
    found: list[Message] = []
    while page := await log.read(channel_id, after=found[-1].sequence if found else 0, limit=500, max_bytes=10**7):
        found += page
    return found
