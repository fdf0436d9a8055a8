"""What a message log over SQL answers without writing: each answer is one query in a reader's thread."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Connection

from errors import IdempotencyConflict
from message_log.change_queries import ChangeQueries
from message_log.protocol import LOOK_AT_MAX, HistoryPage, StoredPage
from message_log.queries import Queries, Stretch
from message_rows import to_microseconds
from messages import ChannelHead, Draft, Message, MessageFilter, Totals

T = TypeVar("T")


class SqlReads:
    """The reading half of `protocol.MessageLog`. Whoever derives from it says where queries run."""

    async def _ask(self, query: Callable[[Queries, Connection], T]) -> T:
        """Runs a query of messages in a reader's thread."""
        raise NotImplementedError

    async def _ask_changes(self, query: Callable[[ChangeQueries, Connection], T]) -> T:
        """Runs a query of changes in a reader's thread."""
        raise NotImplementedError

    async def last_sequence(self, channel_id: str) -> int:
        return await self._ask(lambda queries, connection: queries.last_sequence(connection, channel_id))

    async def last_sequences(self, channel_ids: Collection[str]) -> dict[str, int]:
        if not channel_ids:
            return {}
        wanted = list(channel_ids)
        return await self._ask(lambda queries, connection: queries.last_sequences(connection, wanted))

    async def read(self, channel_id: str, *, after: int, limit: int, max_bytes: int) -> list[Message]:
        return await self._ask(
            lambda queries, connection: queries.read(connection, channel_id, after, limit, max_bytes)
        )

    async def read_many(self, positions: Mapping[str, int], *, limit: int, max_bytes: int) -> dict[str, list[Message]]:
        if not positions:
            return {}
        return await self._ask(lambda queries, connection: queries.read_many(connection, positions, limit, max_bytes))

    async def history(
        self,
        channel_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int,
        backwards: bool = False,
        filter: MessageFilter | None = None,
    ) -> HistoryPage:
        return await self._ask(
            lambda queries, connection: queries.history(
                connection, channel_id, after or 0, before, limit, backwards, filter
            )
        )

    async def page(
        self,
        channel_id: str,
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int,
        backwards: bool = False,
        filter: MessageFilter | None = None,
        look_at_max: int = LOOK_AT_MAX,
    ) -> StoredPage:
        return await self._ask(
            lambda queries, connection: queries.page(
                connection, channel_id, after, before, limit, backwards, filter, look_at_max
            )
        )

    async def oldest_sequence(self, channel_id: str) -> int:
        return await self._ask(lambda queries, connection: queries.oldest_sequence(connection, channel_id))

    async def oldest_of_all(
        self, *, limit: int, channel_ids: Collection[str] | None = None, after: Message | None = None
    ) -> list[Message]:
        wanted = None if channel_ids is None else list(channel_ids)
        return await self._ask(lambda queries, connection: queries.oldest_of_all(connection, limit, wanted, after))

    async def message(self, channel_id: str, sequence: int) -> Message | None:
        return await self._ask(lambda queries, connection: queries.message(connection, channel_id, sequence))

    async def repeated(self, draft: Draft) -> Message | None:
        if draft.idempotency_key is None:
            return None
        found = await self._ask(lambda queries, connection: queries.repeated(connection, draft))
        if found is None:
            return None
        message, same = found
        if not same:
            raise IdempotencyConflict
        return message

    async def posted_by(
        self, author: str, *, after: tuple[str, int] | None, limit: int
    ) -> tuple[list[tuple[str, int]], tuple[str, int] | None]:
        return await self._ask(lambda queries, connection: queries.posted_by(connection, author, after, limit))

    async def names_taken(self) -> int:
        return await self._ask(lambda queries, connection: queries.names_taken(connection))

    async def growing_since(self, moment: datetime, *, limit: int) -> list[tuple[str, int, int]]:
        now = datetime.now(UTC)
        return await self._ask_changes(
            lambda queries, connection: queries.growing_since(
                connection, to_microseconds(moment), to_microseconds(now), limit
            )
        )

    async def channels(self, *, after: str | None = None, limit: int) -> list[ChannelHead]:
        return await self._ask(lambda queries, connection: queries.channels(connection, after, limit))

    async def totals(self, channel_ids: Collection[str] | None = None) -> Totals:
        wanted = None if channel_ids is None else list(channel_ids)
        return await self._ask(lambda queries, connection: queries.totals(connection, wanted))

    async def stretches(self, *, after: str | None = None, limit: int) -> list[Stretch]:
        """What is held of each channel, by code point order of their ids, ids > `after`, at most `limit`."""
        return await self._ask(lambda queries, connection: queries.stretches(connection, after or "", limit))

    async def first_since(self, stretch: Stretch, moment: int, limit: int) -> int:
        """The first sequence of a stretch, among its oldest `limit`, stamped at `moment` (microseconds) or later.

        Where there is none, the sequence that follows those that were looked at.
        """
        return await self._ask(lambda queries, connection: queries.first_since(connection, stretch, moment, limit))
