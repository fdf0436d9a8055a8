"""Authors who change their messages: they append to them, complete, edit and erase them, on any node."""

import asyncio
import random
from typing import Any

import httpx

from tests.chaos.history import Acknowledged, Changed, ChangeUnknown, Changing, Posted, Unknown
from tests.chaos.people import GIVES_UP_ONCE_IN, POST_SECONDS, Book, content
from tests.cluster.chat_client import ChatClient, Failed

POST = """
mutation ($channelId: ID!, $author: String!, $content: String!, $key: String, $complete: Boolean) {
  message: postMessage(
    channelId: $channelId, author: $author, content: $content, idempotencyKey: $key, complete: $complete
  ) { sequence }
}
"""
MUTATIONS = {
    "APPENDED": """
mutation ($id: ID!, $revision: Int!, $text: String!, $last: Boolean) {
  message: appendToMessage(id: $id, revision: $revision, piece: $text, complete: $last) { revision }
}
""",
    "COMPLETED": "mutation ($id: ID!) { message: completeMessage(id: $id) { revision } }",
    "EDITED": """
mutation ($id: ID!, $revision: Int!, $text: String!) {
  message: editMessage(id: $id, content: $text, revision: $revision) { revision }
}
""",
    "ERASED": "mutation ($id: ID!) { message: eraseMessage(id: $id) { revision } }",
}
PIECES_MAX = 8
DOUBTS_ONCE_IN = 6
"""One of so many acknowledged pieces is sent again, as if its answer had been lost."""


class Author:
    """Posts and changes one message after the other. Nobody else changes them, so each revision is this author's."""

    def __init__(
        self, name: str, book: Book, clients: dict[str, ChatClient], channel_id: str, chance: random.Random
    ) -> None:
        self.name = name
        self.posted = 0
        self.changed = 0
        self.problems: list[str] = []
        self._book = book
        self._clients = clients
        self._channel_id = channel_id
        self._random = chance
        self._own: dict[int, tuple[str, int]] = {}
        """The name and the revision of each message that may still be edited or erased, by sequence."""

    async def run(self, stop: asyncio.Event, pause_seconds: float) -> None:
        """Runs until `stop` is set. The message that is growing then is completed."""
        while not stop.is_set():
            await self.live(pause_seconds)

    async def live(self, pause_seconds: float, *, node: str | None = None) -> None:
        """Posts one message and its pieces, and perhaps changes an earlier one. Each try goes to `node`, or to any
        node."""
        self.posted += 1
        name = f"{self.name}-{self.posted}"
        grows = self._random.random() < 0.6
        sequence = await self._post(name, grows, node)
        if sequence is None:
            return
        revision: int | None = 0
        pieces = self._random.randint(1, PIECES_MAX) if grows else 0
        for number in range(pieces):
            await asyncio.sleep(self._random.uniform(0, 2 * pause_seconds))
            last = number == pieces - 1 and self._random.random() < 0.5
            revision = await self._change(sequence, revision, "APPENDED", f"<{name}+{number}>", node, last=last)
            if revision is None:
                return
            if number == pieces - 1 and not last:
                revision = await self._change(sequence, revision, "COMPLETED", None, node)
        if revision is not None:
            self._own[sequence] = name, revision
        for _ in range(self._random.randrange(3)):
            await asyncio.sleep(self._random.uniform(0, 2 * pause_seconds))
            await self.correct(node=node)

    async def correct(self, *, node: str | None = None) -> None:
        """Edits or erases one of the earlier messages."""
        if not self._own:
            return
        sequence = self._random.choice(list(self._own))
        name, revision = self._own.pop(sequence)
        if self._random.random() < 0.25:
            await self._change(sequence, revision, "ERASED", None, node)
            return
        reached = await self._change(sequence, revision, "EDITED", f"{name}/as of {revision + 1}", node)
        if reached is not None:
            self._own[sequence] = name, reached

    async def _post(self, name: str, grows: bool, node: str | None) -> int | None:
        """Posts a message and returns its sequence. None if the author has given up."""
        while True:
            where = node or self._random.choice(list(self._clients))
            self._book.add(lambda at, where=where: Posted(at, self._channel_id, self.name, name, where))  # type: ignore[misc]
            answer = await self._ask(
                where,
                POST,
                channelId=self._channel_id,
                author=self.name,
                content=content(name, 0),
                key=name,
                complete=not grows,
            )
            if isinstance(answer, dict):
                sequence = int(answer["sequence"])
                self._book.add(lambda at: Acknowledged(at, self._channel_id, self.name, name, sequence))  # noqa: B023
                return sequence
            self._book.add(lambda at, why=answer: Unknown(at, self._channel_id, self.name, name, str(why)))  # type: ignore[misc]
            if await self._gives_up(node):
                return None

    async def _change(
        self, sequence: int, revision: int | None, kind: str, text: str | None, node: str | None, *, last: bool = False
    ) -> int | None:
        """Makes the next revision of a message, and returns the message's revision after that. None if the author has
        given up.

        With `last`, the piece also completes the message, which makes two revisions.
        """
        assert revision is not None
        made = [(revision + 1, kind, text), *([(revision + 2, "COMPLETED", None)] if last else [])]
        variables: dict[str, Any] = {"id": f"{self._channel_id}:{sequence}"}
        if text is not None:
            variables |= {"revision": revision, "text": text}
        if kind == "APPENDED":
            variables["last"] = last
        doubts = kind == "APPENDED" and self._random.randrange(DOUBTS_ONCE_IN) == 0
        tries = 0
        while True:
            tries += 1
            for each in made:
                self._book.add(lambda at, e=each: Changing(at, self._channel_id, self.name, sequence, *e))  # type: ignore[misc]
            where = node or self._random.choice(list(self._clients))
            answer = await self._ask(where, MUTATIONS[kind], **variables)
            if isinstance(answer, Failed) and tries > 1 and answer.extensions.get("code") == "REVISION_CONFLICT":
                # So the edit was done by the try before, since nobody else changes this message.
                answer = {"revision": answer.extensions["revision"]}
            if isinstance(answer, dict):
                if answer["revision"] != made[-1][0]:
                    self.problems.append(f"revision {made[-1][0]} of {sequence} was answered with {answer}")
                for each in made:
                    self._book.add(lambda at, e=each: Changed(at, self._channel_id, self.name, sequence, *e))  # type: ignore[misc]
                self.changed += 1
                if not doubts:
                    return made[-1][0]
                doubts = False
                continue
            if isinstance(answer, Failed) and answer.extensions.get("code") != "UNAVAILABLE":
                self.problems.append(f"{kind}: {answer} {answer.extensions}")
            why = f"{type(answer).__name__} {answer}".strip()
            self._book.add(
                lambda at, why=why: ChangeUnknown(at, self._channel_id, self.name, sequence, revision + 1, why)  # type: ignore[misc]
            )
            if await self._gives_up(node):
                return None

    async def _gives_up(self, node: str | None) -> bool:
        if node is None and self._random.randrange(GIVES_UP_ONCE_IN) == 0:
            return True
        await asyncio.sleep(self._random.uniform(0.05, 0.4))
        return False

    async def _ask(self, where: str, mutation: str, **variables: Any) -> dict[str, Any] | Exception:
        try:
            async with asyncio.timeout(POST_SECONDS):
                data = await self._clients[where].ask(mutation, **variables)
        except (Failed, httpx.HTTPError, ValueError, TimeoutError) as error:
            return error
        return dict(data["message"])
