"""Whose access is revoked. The list is stored with the log, and every process holds it in memory, so a check needs no
query.

Every change increments a counter in `log_info`. Each process compares it a few times a second, and reads the list again
when it has changed. So a change acts everywhere, whether or not anybody was told of it.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from threading import Lock

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from changes import ChangeDraft
from errors import BadUserInput
from message_log.tables import log_info, revocations
from message_rows import from_microseconds, to_microseconds
from messages import Draft, Revocation

REVOCATIONS_MAX = 10_000
"""Revocations in force at the same time. Every process holds all of them in memory, and reads them again after each
change."""
_EVERY = ""
"""Stands for every channel in the table: no channel has an empty id, and a primary key may not be null."""
_VERSION = select(log_info.c.revocations_version)


class RevocationSet:
    """The revocations in force, as this process knows them. Implements `protocol.Revoked`; any thread may ask."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = Lock()
        self._version = 0
        self._held: dict[tuple[str, str], Revocation] = {}
        self._ends: dict[str, dict[str | None, float]] = {}
        """By author and channel, until when. Both dicts are always replaced as a whole, so reading needs no lock."""

    def __bool__(self) -> bool:
        return bool(self._ends)

    def forbids(self, author: str | None, channel_id: str | None) -> bool:
        """Whether the author's access to the channel was revoked, or to every channel; None asks for the latter."""
        ends = self._ends.get(author) if author is not None else None
        if not ends:
            return False
        now = self._clock()
        return ends.get(None, 0.0) > now or (channel_id is not None and ends.get(channel_id, 0.0) > now)

    def concerns(self, author: str | None) -> bool:
        """Whether any access of this author was revoked: to a channel, or to all of them."""
        ends = self._ends.get(author) if author is not None else None
        return ends is not None and max(ends.values()) > self._clock()

    def forbids_post(self, draft: Draft | ChangeDraft) -> bool:
        """Whether a post or change may not be stored, because the access of its author or of its sender is revoked."""
        if not self._ends:
            return False
        if isinstance(draft, ChangeDraft):
            return self.forbids(draft.by, draft.channel_id)
        return self.forbids(draft.author, draft.channel_id) or (
            draft.sender != draft.author and self.forbids(draft.sender, draft.channel_id)
        )

    def listed(self) -> list[Revocation]:
        """Those in force now, by (author, channel). Of an author, the one for every channel comes first."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        held = self._held
        return [held[key] for key in sorted(held) if _holds(held[key], now)]

    def replace(self, version: int, listed: Iterable[Revocation]) -> list[Revocation]:
        """Takes over what the log held at `version`, and returns those that were not in force here before.

        An older version than the known one changes nothing: it was read before a change by this process.
        """
        with self._lock:
            if version < self._version:
                return []
            now, before = datetime.fromtimestamp(self._clock(), UTC), self._held
            held = {_key(each): each for each in listed}
            ends: dict[str, dict[str | None, float]] = {}
            for each in held.values():
                ends.setdefault(each.author, {})[each.channel_id] = _end(each)
            self._version, self._held, self._ends = version, held, ends
            return [
                each
                for key, each in held.items()
                if _holds(each, now) and not (key in before and _holds(before[key], now))
            ]

    def add(self, version: int, revocation: Revocation) -> list[Revocation]:
        """Takes over a change by this process. Returns what is newly in force. It is cheap, however many there are."""
        with self._lock:
            known = self.forbids(revocation.author, revocation.channel_id)
            ends = {**self._ends.get(revocation.author, {}), revocation.channel_id: _end(revocation)}
            self._version = max(version, self._version)
            self._held = {**self._held, _key(revocation): revocation}
            self._ends = {**self._ends, revocation.author: ends}
            return [] if known else [revocation]

    def discard(self, version: int, author: str, channel_id: str | None) -> None:
        """Takes over a change by this process: a revocation was taken back."""
        with self._lock:
            self._version = max(version, self._version)
            self._held = {key: each for key, each in self._held.items() if key != (author, channel_id or _EVERY)}
            left = {name: end for name, end in self._ends.get(author, {}).items() if name != channel_id}
            others = {name: ends for name, ends in self._ends.items() if name != author}
            self._ends = {**others, author: left} if left else others


def _key(revocation: Revocation) -> tuple[str, str]:
    return revocation.author, _EVERY if revocation.channel_id is None else revocation.channel_id


def _end(revocation: Revocation) -> float:
    return float("inf") if revocation.until is None else revocation.until.timestamp()


def _holds(revocation: Revocation, now: datetime) -> bool:
    return revocation.until is None or revocation.until > now


def revoke(connection: Connection, revocation: Revocation, now: datetime) -> int:
    """Stores a revocation, which replaces an earlier one of the same author and channel. Returns the new version.

    Raises:
        BadUserInput: `REVOCATIONS_MAX` are in force already.
    """
    row = {
        "author": revocation.author,
        "channel_id": _EVERY if revocation.channel_id is None else revocation.channel_id,
        "until": None if revocation.until is None else to_microseconds(revocation.until),
        "revoked_at": to_microseconds(revocation.revoked_at),
        "revoked_by": revocation.revoked_by,
    }
    with _changed(connection):
        _forget_ended(connection, now)
        insert = (sqlite_insert if connection.dialect.name == "sqlite" else postgresql_insert)(revocations)
        connection.execute(insert.values(row).on_conflict_do_update(index_elements=["author", "channel_id"], set_=row))
        held = connection.scalar(select(func.count()).select_from(revocations).where(_in_force(now))) or 0
        if held > REVOCATIONS_MAX:
            raise BadUserInput("author", f"is one too many: at most {REVOCATIONS_MAX} revocations are in force at once")
        return version(connection)


def restore(connection: Connection, author: str, channel_id: str | None, now: datetime) -> tuple[int, bool]:
    """Takes a revocation back. Returns the new version, and whether one was in force."""
    named = (revocations.c.author == author) & (
        revocations.c.channel_id == (_EVERY if channel_id is None else channel_id)
    )
    with _changed(connection):
        _forget_ended(connection, now)
        found = connection.scalar(select(func.count()).select_from(revocations).where(named, _in_force(now)))
        connection.execute(delete(revocations).where(named))
        return version(connection), bool(found)


def version(connection: Connection) -> int:
    """The counter that every change increments."""
    return connection.scalar(_VERSION) or 0


def read(connection: Connection) -> tuple[int, Sequence[Revocation]]:
    """All revocations that are stored, including those that have ended, and a version that is not newer than they
    are."""
    seen = version(connection)
    rows = connection.execute(select(revocations)).mappings()
    return seen, [
        Revocation(
            author=row["author"],
            channel_id=None if row["channel_id"] == _EVERY else row["channel_id"],
            until=None if row["until"] is None else from_microseconds(row["until"]),
            revoked_at=from_microseconds(row["revoked_at"]),
            revoked_by=row["revoked_by"],
        )
        for row in rows
    ]


def _in_force(now: datetime) -> ColumnElement[bool]:
    return or_(revocations.c.until.is_(None), revocations.c.until > to_microseconds(now))


def _forget_ended(connection: Connection, now: datetime) -> None:
    # They are removed a day late: if the clock of one node is ahead, it must not end revocations for all others.
    connection.execute(delete(revocations).where(revocations.c.until <= to_microseconds(now - timedelta(days=1))))


class _changed:
    """A transaction, on a connection in autocommit mode, that increments the version. Others wait for its end."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __enter__(self) -> None:
        sqlite = self._connection.dialect.name == "sqlite"
        self._connection.exec_driver_sql("BEGIN IMMEDIATE" if sqlite else "BEGIN")
        self._connection.execute(update(log_info).values(revocations_version=log_info.c.revocations_version + 1))

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._connection.exec_driver_sql("COMMIT" if kind is None else "ROLLBACK")
