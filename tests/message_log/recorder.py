"""A listener that writes down what it hears, and short ways to post."""

import asyncio

from changes import MessageChange
from message_log.protocol import Appended, Commit
from message_log.sql import SqlMessageLog
from messages import Draft, Message


class Recorder:
    """Hears what a log says; `heard` is set by every hint, `gap` when commits may have been missed."""

    def __init__(self) -> None:
        self.commits: list[list[Message]] = []
        self.hints: list[tuple[str, int]] = []
        self.changes: list[MessageChange] = []
        self.change_hints: list[tuple[str, int]] = []
        self.heard = asyncio.Event()
        self.gap = asyncio.Event()

    def committed(self, commit: Commit) -> None:
        if commit.messages:
            self.commits.append(list(commit.messages))
        self.changes += commit.changes

    def hinted(self, channel_id: str, sequence: int) -> None:
        self.hints.append((channel_id, sequence))
        self.heard.set()

    def hinted_changes(self, channel_id: str, sequence: int) -> None:
        self.change_hints.append((channel_id, sequence))
        self.heard.set()

    def missed(self) -> None:
        self.gap.set()

    @property
    def messages(self) -> list[Message]:
        """All messages that were announced, in order."""
        return [message for commit in self.commits for message in commit]


async def post(log: SqlMessageLog, *contents: str, channel_id: str = "general", author: str = "ada") -> list[Message]:
    """Appends at the same time and returns the messages in the order of `contents`."""
    drafts = (Draft(channel_id, author, content) for content in contents)
    return [appended.message for appended in await append(log, *drafts)]


async def append(log: SqlMessageLog, *drafts: Draft) -> list[Appended]:
    """Appends at the same time; the first failure is raised."""
    return await asyncio.gather(*(log.append(draft) for draft in drafts))


async def everything(log: SqlMessageLog, channel_id: str = "general") -> list[Message]:
    """All messages of a channel that are held."""
    found: list[Message] = []
    while page := await log.read(channel_id, after=found[-1].sequence if found else 0, limit=500, max_bytes=10**7):
        found += page
    return found
