"""The changes of all channels as a log of entries: `message_log.protocol.EntryLog` over the same database."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from changes import MessageChange, changes_epoch
from message_log.change_queries import ChangeQueries

T = TypeVar("T")


class Ask(Protocol):
    """Runs a query in a reader's thread."""

    def __call__(self, query: Callable[[ChangeQueries, Connection], T], /) -> Awaitable[T]: ...


class SqlChangeLog:
    """Implements `protocol.EntryLog`. Open while the log of messages is that it belongs to."""

    def __init__(self, ask: Ask, epoch: Callable[[], str], *, exclusive: bool) -> None:
        self._ask = ask
        self._epoch = epoch
        self._exclusive = exclusive

    @property
    def epoch(self) -> str:
        return changes_epoch(self._epoch())

    @property
    def exclusive(self) -> bool:
        return self._exclusive

    async def last_sequence(self, channel_id: str) -> int:
        return await self._ask(lambda queries, connection: queries.last_sequence(connection, channel_id))

    async def last_sequences(self, channel_ids: Collection[str]) -> dict[str, int]:
        if not channel_ids:
            return {}
        wanted = list(channel_ids)
        return await self._ask(lambda queries, connection: queries.last_sequences(connection, wanted))

    async def read(self, channel_id: str, *, after: int, limit: int, max_bytes: int) -> list[MessageChange]:
        return await self._ask(
            lambda queries, connection: queries.read(connection, channel_id, after, limit, max_bytes)
        )

    async def read_many(
        self, positions: Mapping[str, int], *, limit: int, max_bytes: int
    ) -> dict[str, list[MessageChange]]:
        if not positions:
            return {}
        return await self._ask(lambda queries, connection: queries.read_many(connection, positions, limit, max_bytes))

    async def oldest_sequence(self, channel_id: str) -> int:
        return await self._ask(lambda queries, connection: queries.oldest_sequence(connection, channel_id))
