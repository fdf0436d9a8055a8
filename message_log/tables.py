"""The tables of the log, as the newest migration leaves them. A test compares the two.

Channel ids, authors and idempotency keys compare by code point on both databases (`COLLATE "C"` on PostgreSQL;
SQLite's own order), so `ORDER BY` means the same everywhere and indexes need no locale.

Timestamps are whole microseconds since 1970 in UTC: exact on both, and cheap to compare.
"""

from sqlalchemy import BigInteger, CheckConstraint, Column, Index, Integer, MetaData, SmallInteger, Table, Text
from sqlalchemy.types import TypeEngine

metadata = MetaData()


def typed(table: Table, *names: str) -> tuple[tuple[str, str], ...]:
    """Columns of a table with their types in SQL. Without names, all columns in their order."""
    return tuple((name, str(table.c[name].type).lower()) for name in names or table.c.keys())


def _text() -> TypeEngine[str]:
    return Text().with_variant(Text(collation="C"), "postgresql")


log_info = Table(
    "log_info",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("epoch", _text(), nullable=False),
    Column("revocations_version", BigInteger, nullable=False, server_default="0"),
    # Raised whenever a name is taken from changes: they get no new numbers that would tell of it.
    Column("names_taken", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("id = 1", name="log_info_one_row"),
)

channels = Table(
    "channels",
    metadata,
    Column("channel_id", _text(), primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
    # Where one process alone writes the log (SQLite), it is raised only when the newest change is removed: the newest
    # row of `changes` may be above it.
    Column("last_change", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

# `content` comes last: SQLite then reads the other columns without following a long content's overflow pages.
# This one has a rowid. Without, a page of history reads twice as fast, since it lies in one place; but a batch over
# 1,000 channels is written at 0.6 times the speed, and contents above 1 KB overflow into pages of their own.
messages = Table(
    "messages",
    metadata,
    Column("channel_id", _text(), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("timestamp", BigInteger, nullable=False),
    Column("author", _text(), nullable=False),
    Column("lane", _text()),
    Column("provider", _text()),
    Column("token_count", Integer),
    Column("idempotency_key", _text()),
    Column("content", _text(), nullable=False),
    Column("revision", Integer, nullable=False, server_default="0"),
    Column("complete", SmallInteger, nullable=False, server_default="1"),
    Column("edited_at", BigInteger),
    Column("erased_at", BigInteger),
    Column("posted_digest", _text()),
)
Index("messages_by_time", messages.c.timestamp, messages.c.channel_id, messages.c.sequence)
Index(
    "messages_by_key",
    messages.c.channel_id,
    messages.c.author,
    messages.c.idempotency_key,
    unique=True,
    sqlite_where=messages.c.idempotency_key.is_not(None),
    postgresql_where=messages.c.idempotency_key.is_not(None),
)

# What was done to messages: a log of each channel, as `messages` is. `text` is the piece or the new content, null where
# there is none and once the message was erased (`edition` is 1 then).
#
# `run` is how many changes a row holds, `cuts` where its text is cut, `span` for how many sequences it is a mark: see
# `change_rows`.
#
# A row of a message that grows (`complete` is 0) is not written with every piece: it stands as it was at its
# `revision`, and what followed are changes of higher revisions, which whoever reads it applies.
changes = Table(
    "changes",
    metadata,
    Column("channel_id", _text(), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("message_sequence", BigInteger, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("kind", SmallInteger, nullable=False),
    Column("edition", SmallInteger, nullable=False, server_default="0"),
    Column("timestamp", BigInteger, nullable=False),
    Column("token_count", Integer),
    Column("author", _text(), nullable=False),
    Column("text", _text()),
    Column("run", Integer, nullable=False, server_default="1"),
    Column("cuts", _text()),
    Column("span", Integer, nullable=False, server_default="1"),
    sqlite_with_rowid=False,
)
Index(
    "changes_by_message",
    changes.c.channel_id,
    changes.c.message_sequence,
    changes.c.revision,
    unique=True,
    sqlite_where=changes.c.span > 0,
    postgresql_where=changes.c.span > 0,
)

# One small row for each message that may still grow: how far it has come, and when it was last touched. Where one
# process alone writes the log (SQLite), what is written here may be behind by what `changes` says.
growing = Table(
    "growing",
    metadata,
    Column("channel_id", _text(), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("revision", Integer, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# What was posted, ever: like the counters, totals never go back when retention removes messages.
# A null provider or lane is stored as the empty string, which no message can carry (null and empty are one).
totals = Table(
    "totals",
    metadata,
    Column("channel_id", _text(), primary_key=True),
    Column("provider", _text(), primary_key=True),
    Column("lane", _text(), primary_key=True),
    Column("messages", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# One row for each process that posts to PostgreSQL, rewritten by every transaction of its writer: it tells a process
# that lost its connection during a commit what became of it (see `postgresql.py`). Empty on SQLite.
writers = Table(
    "writers",
    metadata,
    Column("writer_id", _text(), primary_key=True),
    Column("commits", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

# Whose access was taken away. An empty channel id stands for every channel. Each change raises the counter in
# `log_info`.
revocations = Table(
    "revocations",
    metadata,
    Column("author", _text(), primary_key=True),
    Column("channel_id", _text(), primary_key=True),
    Column("until", BigInteger),
    Column("revoked_at", BigInteger, nullable=False),
    Column("revoked_by", _text(), nullable=False),
    sqlite_with_rowid=False,
)
