"""Subscribers that follow the changes of messages by the rule of the example, also while their nodes are harmed."""

import asyncio
import random
from typing import Any

import httpx

from changes import changes_epoch
from examples.held_messages import HeldMessages
from messages import decode_cursor, encode_cursor
from tests.chaos.history import Began, BeganChanges, ChangeDelivered, Delivered, Disconnected, Shows
from tests.chaos.people import Book, named
from tests.cluster.chat_client import ChatClient, Failed
from tests.cluster.subscriber import Subscriber

FIELDS = "id sequence content revision complete editedAt erasedAt"
OPEN = f"""
query ($id: ID!) {{
  channel(id: $id) {{
    changesCursor headCursor
    messages(last: 50) {{ edges {{ node {{ {FIELDS} }} }} }}
  }}
}}
"""
PAGE = f"""
query ($id: ID!, $after: Cursor) {{
  channel(id: $id) {{
    newest: messages(last: 50) {{ edges {{ node {{ {FIELDS} }} }} }}
    messages(first: 50, after: $after) {{ edges {{ node {{ {FIELDS} }} }} }}
  }}
}}
"""
MESSAGES = f"""
subscription ($channelId: ID!, $after: Cursor) {{
  messages(channelId: $channelId, after: $after) {{ cursor {FIELDS} }}
}}
"""
CHANGES = """
subscription ($channelId: ID!, $after: Cursor) {
  changes(channelId: $channelId, after: $after) {
    cursor sequence messageId kind revision piece content timestamp
  }
}
"""


def sequence_of(message_id: str) -> int:
    return int(message_id.rpartition(":")[2])


class Follower(Subscriber):
    """Keeps the messages of a channel up to date, from pages, `messages` and `changes`, with one connection at a time.

    With `replays` it gets all messages from the subscription. Otherwise it gets the newest ones from a page, and the
    subscription continues after them.
    """

    def __init__(
        self, name: str, book: Book, channel_id: str, nodes: list[str], epoch: str, *, token: str, replays: bool
    ) -> None:
        super().__init__(
            name,
            channel_id,
            nodes,
            ended=lambda code: book.add(lambda at: Disconnected(at, channel_id, name, code)),
            token=token,
        )
        self.held = HeldMessages()
        self.changes_cursor = ""
        self.reached_message = self.reached_change = 0
        self._book = book
        self._epoch = epoch
        self._replays = replays

    async def open(self, clients: list[ChatClient]) -> None:
        """Asks any node for both cursors and for the newest messages, all in one query."""
        while True:
            try:
                async with asyncio.timeout(8):
                    channel = (await random.choice(clients).ask(OPEN, id=self.channel_id))["channel"]
                break
            except (Failed, httpx.HTTPError, ValueError, TimeoutError):
                await asyncio.sleep(0.1)
        self.changes_cursor, self.cursor = channel["changesCursor"], channel["headCursor"]
        self.reached_change = decode_cursor(self.changes_cursor, changes_epoch(self._epoch), self.channel_id)
        if self._replays:
            self.cursor = encode_cursor(self._epoch, self.channel_id, 0)
        else:
            self._take_page(channel["messages"])
        assert self.cursor is not None
        self.reached_message = decode_cursor(self.cursor, self._epoch, self.channel_id)
        self._book.add(lambda at: BeganChanges(at, self.channel_id, self.name, self.reached_change))
        self._book.add(lambda at: Began(at, self.channel_id, self.name, self.reached_message))

    async def read_pages(self, clients: list[ChatClient], pause_seconds: float) -> None:
        """Reads pages of history from any node, at any time, until it is cancelled."""
        while True:
            await asyncio.sleep(random.uniform(0, 2 * pause_seconds))
            after = encode_cursor(self._epoch, self.channel_id, random.randint(0, self.reached_message))
            try:
                async with asyncio.timeout(8):
                    channel = (await random.choice(clients).ask(PAGE, id=self.channel_id, after=after))["channel"]
            except (Failed, httpx.HTTPError, ValueError, TimeoutError):
                continue
            self._take_page(channel["newest"])
            self._take_page(channel["messages"])

    def _take_page(self, page: dict[str, Any]) -> None:
        for edge in page["edges"]:
            self.held.take_message(edge["node"])

    async def until_both(self, message: int, change: int) -> None:
        """Returns when both sequences have arrived."""
        while self.reached_message < message or self.reached_change < change:
            self._moved.clear()
            await self._moved.wait()

    def show(self) -> None:
        """Writes into the book which messages it has now."""
        for message in list(self.held.messages.values()):
            self._book.add(
                lambda at, m=message: Shows(  # type: ignore[misc]
                    at,
                    self.channel_id,
                    self.name,
                    m["sequence"],
                    m["content"],
                    m["revision"],
                    m["complete"],
                    m["erasedAt"] is not None,
                )
            )

    def _operations(self) -> dict[str, tuple[str, str | None]]:
        # Changes come first, so that no change is missed of a message that comes on this connection.
        return {"changes": (CHANGES, self.changes_cursor), "messages": (MESSAGES, self.cursor)}

    def _receive(self, data: dict[str, Any]) -> None:
        if (change := data.get("changes")) is not None:
            self.changes_cursor, self.reached_change = change["cursor"], change["sequence"]
            of, text = sequence_of(change["messageId"]), change["piece"] or change["content"]
            self._book.add(
                lambda at: ChangeDelivered(
                    at, self.channel_id, self.name, change["sequence"], of, change["revision"], change["kind"], text
                )
            )
            self.held.take_change(change)
        else:
            message = data["messages"]
            self.cursor, self.reached_message = message.pop("cursor"), message["sequence"]
            text = message["content"]
            shown = None if message["erasedAt"] else text.partition("/")[0] if message["revision"] else named(text)
            self.record.append((message["sequence"], text))
            self._book.add(lambda at: Delivered(at, self.channel_id, self.name, message["sequence"], shown))
            self.held.take_message(message)
        self._moved.set()
