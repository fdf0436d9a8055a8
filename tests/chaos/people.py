"""Publishers and subscribers that use a cluster while it is harmed, and write down what they are told."""

import asyncio
import random
from collections.abc import Callable

import httpx

from tests.chaos.history import Acknowledged, Began, Delivered, Disconnected, Event, Posted, Unknown
from tests.cluster.chat_client import ChatClient, Failed
from tests.cluster.subscriber import Subscriber

GIVES_UP_ONCE_IN = 12
"""After one in so many unknown outcomes the post is not repeated. It may be stored once, or not at all."""
POST_SECONDS = 8.0


class Book:
    """The list of all events, in the order in which they happened."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._began = asyncio.get_running_loop().time()

    def now(self) -> float:
        """Seconds since the run began."""
        return asyncio.get_running_loop().time() - self._began

    def add(self, make: Callable[[float], Event]) -> None:
        self.events.append(make(self.now()))


def content(name: str, size: int) -> str:
    """A unique content of about `size` bytes. Each of its bytes can be checked."""
    return f"{name}/{size}/" + "." * size


def named(text: str) -> str:
    """The name in a content that arrived unchanged. Otherwise what arrived, which then equals no posted content."""
    name, _, rest = text.partition("/")
    size, _, dots = rest.partition("/")
    return name if size.isdecimal() and dots == "." * int(size) else f"spoiled: {text[:80]}"


class Publisher:
    """Posts one message after the other, to any node. Each is repeated until the answer says that it was stored.

    Every other one has no idempotency key, so it is not repeated: it may be stored once, or not at all.
    """

    def __init__(
        self, name: str, book: Book, clients: dict[str, ChatClient], channel_ids: list[str], chance: random.Random
    ) -> None:
        self.name = name
        self.posted = 0
        self.acknowledged = 0
        self.unknown = 0
        self.problems: list[str] = []
        self._book = book
        self._clients = clients
        self._channel_ids = channel_ids
        self._random = chance

    async def run(self, stop: asyncio.Event, pause_seconds: float) -> None:
        """Posts until `stop` is set. The post that is under way then is finished."""
        while not stop.is_set():
            await self.post(self._random.choice(self._channel_ids), self._random.choice((1, 20, 200, 2000)))
            await asyncio.sleep(self._random.uniform(0, 2 * pause_seconds))

    async def post(self, channel_id: str, size: int, *, node: str | None = None) -> None:
        """Posts one message. Each try goes to a random node, or to `node`; then it has a key, and is repeated."""
        self.posted += 1
        name = f"{self.name}-{self.posted}"
        key = name if node or self.posted % 2 else None
        while True:
            where = node or self._random.choice(list(self._clients))
            self._book.add(lambda at, where=where: Posted(at, channel_id, self.name, name, where))  # type: ignore[misc]
            try:
                async with asyncio.timeout(POST_SECONDS):
                    sequence = await self._clients[where].post(
                        channel_id, content(name, size), author=self.name, key=key
                    )
            except (Failed, httpx.HTTPError, ValueError, TimeoutError) as error:
                problem = f"{type(error).__name__} {error}".strip()
                if isinstance(error, Failed) and error.extensions.get("code") != "UNAVAILABLE":
                    self.problems.append(f"{problem} {error.extensions}")
                self.unknown += 1
                self._book.add(lambda at: Unknown(at, channel_id, self.name, name, problem))  # noqa: B023
                if key is None or (node is None and self._random.randrange(GIVES_UP_ONCE_IN) == 0):
                    return
                await asyncio.sleep(self._random.uniform(0.05, 0.4))
            else:
                self.acknowledged += 1
                self._book.add(lambda at: Acknowledged(at, channel_id, self.name, name, sequence))  # noqa: B023
                return


def listener(
    name: str, book: Book, channel_id: str, nodes: list[str], *, sequence: int, cursor: str, token: str | None = None
) -> Subscriber:
    """A subscriber that starts at `sequence`, whose cursor is given, and writes everything into the book."""
    book.add(lambda at: Began(at, channel_id, name, sequence))
    return Subscriber(
        name,
        channel_id,
        nodes,
        after=cursor,
        delivered=lambda reached, text: book.add(lambda at: Delivered(at, channel_id, name, reached, named(text))),
        ended=lambda code: book.add(lambda at: Disconnected(at, channel_id, name, code)),
        token=token,
    )
