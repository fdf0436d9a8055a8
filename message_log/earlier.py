"""Reads the log of the earlier server: one SQLite table without sequences, ordered by its `id`.

`messages(id, channel_id, author, content, timestamp, lane, provider, token_count)`.
"""

import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from errors import StartupError
from message_log.source import Row, SourceChannel
from message_rows import from_microseconds, to_microseconds
from messages import TOKEN_COUNT_MAX

_COLUMNS = "id, channel_id, author, content, timestamp, lane, provider, token_count"
_MILLISECONDS_FROM = 1e11
"""A number above this is a time in milliseconds: as seconds it would be 3,000 years in the future."""


def is_earlier_log(path: Path) -> bool:
    """Whether a file is a SQLite database with the earlier server's table and none of ours."""
    if not path.is_file():
        return False
    try:
        with closing(_open(path)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return False
    return "messages" in tables and "alembic_version" not in tables


class EarlierLog:
    """The earlier server's file, opened for reading only.

    The messages of each channel get the sequences 1, 2, 3 … in the order of their ids. The epoch is made of the file's
    first message. So when a copy was interrupted and is run again, it goes on where it stopped.
    """

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self._connection = _open(path)
        try:
            first = self._connection.execute(f"SELECT {_COLUMNS} FROM messages ORDER BY id LIMIT 1").fetchone()
        except sqlite3.Error as error:
            self._connection.close()
            raise StartupError(f"{path} is no log of the earlier server: {error}") from None
        (others,) = self._connection.execute(
            "SELECT count(*) FROM (SELECT 1 FROM messages WHERE typeof(channel_id) <> 'text' LIMIT 1)"
        ).fetchone()
        # With the plain column, SQLite can use an index that the file may have.
        self._channel = "coalesce(CAST(channel_id AS TEXT), '')" if others else "channel_id"
        self.epoch = uuid.uuid5(uuid.NAMESPACE_OID, repr(first)).hex

    def close(self) -> None:
        self._connection.close()

    def count(self) -> int:
        (count,) = self._connection.execute("SELECT count(*) FROM messages").fetchone()
        return int(count)

    def revocations(self) -> list[Row]:
        return []  # The earlier server had no authentication, so it had no revocations.

    def channels(self) -> Iterator[SourceChannel]:
        # A channel that is null counts as the channel without a name.
        statement = f"SELECT {self._channel}, count(*) FROM messages GROUP BY 1"
        for channel_id, count in self._connection.execute(statement).fetchall():
            yield SourceChannel(channel_id, int(count), self._totals(channel_id))

    def rows(self, channel_id: str, after: int) -> Iterator[Row]:
        statement = (
            f"SELECT {_COLUMNS} FROM messages WHERE {self._channel} = CAST(? AS TEXT) ORDER BY id LIMIT -1 OFFSET ?"
        )
        found = self._connection.execute(statement, (_bytes(channel_id), after))
        for sequence, row in enumerate(found, after + 1):
            id_, _, author, content, timestamp, lane, provider, token_count = row
            yield {
                "channel_id": channel_id,
                "sequence": sequence,
                "timestamp": self._microseconds(id_, timestamp),
                "author": "unknown" if author is None else _text(author),
                "lane": _text(lane) or None,
                "provider": _text(provider) or None,
                "token_count": token_count,
                "idempotency_key": None,
                "content": _text(content),
            }

    def changes(self, channel_id: str, after: int) -> Iterator[Row]:
        return iter(())

    def nameless_changes(self, channel_id: str, until: int) -> Iterator[int]:
        return iter(())

    def changed(self, channel_id: str, message_sequence: int) -> tuple[Row | None, list[Row]]:
        return None, []

    def oldest_change(self, channel_id: str) -> int:
        return 1

    def _totals(self, channel_id: str) -> list[dict[str, Any]]:
        groups = self._connection.execute(
            "SELECT provider, lane, count(*), coalesce(sum(CASE WHEN typeof(token_count) = 'integer' "
            f"AND token_count BETWEEN 0 AND {TOKEN_COUNT_MAX} THEN token_count END), 0) "
            f"FROM messages WHERE {self._channel} = CAST(? AS TEXT) GROUP BY 1, 2",
            (_bytes(channel_id),),
        )
        return [
            {
                "channel_id": channel_id,
                "provider": _text(provider),
                "lane": _text(lane),
                "messages": count,
                "tokens": tokens,
            }
            for provider, lane, count, tokens in groups
        ]

    def _microseconds(self, id_: Any, timestamp: Any) -> int:
        """A timestamp in any form that the earlier server may have stored: ISO 8601 (UTC if it has no offset), or a
        Unix time in seconds or milliseconds."""
        try:
            if isinstance(timestamp, int | float):
                microseconds = round(timestamp * (1_000 if timestamp > _MILLISECONDS_FROM else 1_000_000))
                from_microseconds(microseconds)
                return microseconds
            moment = datetime.fromisoformat(timestamp)
            microseconds = to_microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
            from_microseconds(microseconds)  # With its offset it may lie before the first or after the last year.
            return microseconds
        except (TypeError, ValueError, OverflowError):
            raise StartupError(f"{self.location}: message {id_} has an unreadable timestamp: {timestamp!r}") from None


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    # SQLite does not check texts. Bytes that are not UTF-8 are read as lone surrogates, so that they stay different.
    connection.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    return connection


def _text(stored: Any) -> str:
    if stored is None:
        return ""
    return stored.decode("utf-8", "surrogateescape") if isinstance(stored, bytes) else str(stored)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
