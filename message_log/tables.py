"""The tables of the log, as they are after the newest migration. A test compares the two.

Both databases compare channel ids, authors and idempotency keys by code point: SQLite always does, and PostgreSQL does
so with `COLLATE "C"`. So `ORDER BY` means the same on both, and indexes do not depend on a locale.

Timestamps are whole microseconds since 1970 in UTC. They are exact on both databases, and cheap to compare.
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
    # Incremented when an author's name is removed from changes. These changes get no new numbers, so nothing else would
    # show that they are different now.
    Column("names_taken", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("id = 1", name="log_info_one_row"),
)

channels = Table(
    "channels",
    metadata,
    Column("channel_id", _text(), primary_key=True),
    Column("last_sequence", BigInteger, nullable=False),
    # If only one process writes the log (SQLite), this is set only when the newest change is removed. The newest row of
    # `changes` may have a larger sequence.
    Column("last_change", BigInteger, nullable=False, server_default="0"),
    sqlite_with_rowid=False,
)

# `content` follows the columns that are read most, so SQLite reads those without the overflow pages of a long content.
# This table has a rowid. Without a rowid a page of history would be read twice as fast, because its rows would be
# beside each other. But a batch of posts in 1,000 channels would be written at 0.6 times the speed, and contents above
# 1 KB would need pages of their own.
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

# What was done to messages. It is a log for each channel, as `messages` is. `text` is the piece or the new content. It
# is null if the change has no text, and after the message was erased (then `edition` is 1).
#
# `run` is the number of changes in a row, `cuts` says where its text is cut, and `span` is the number of sequences that
# it covers as a mark: see `change_rows`.
#
# While a message grows (`complete` is 0), its row in `messages` is not written with every piece. The row has the
# message as it was at its `revision`. The pieces since then are changes with higher revisions, and whoever reads the
# row applies them.
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

# One small row for each message that may still grow: its revision, and when somebody last appended to it. If only one
# process writes the log (SQLite), `changes` may have newer revisions than this table.
growing = Table(
    "growing",
    metadata,
    Column("channel_id", _text(), primary_key=True),
    Column("sequence", BigInteger, primary_key=True, autoincrement=False),
    Column("revision", Integer, nullable=False),
    Column("touched_at", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

# Everything that was ever posted, in numbers. Totals do not become smaller when retention removes messages. If a
# message has no provider or no lane, an empty string is stored here. No message has an empty provider or lane, because
# the server makes null of it.
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

# One row for each process that posts to PostgreSQL. Every transaction of its writer updates it. A process that loses
# its connection during a commit finds out here whether the commit took place (see `writer_row.py`). `heads` is JSON:
# the heads that the newest commit has given to its channels. It is null if the process knew them before it committed.
# On SQLite the table is empty.
writers = Table(
    "writers",
    metadata,
    Column("writer_id", _text(), primary_key=True),
    Column("commits", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    Column("heads", _text()),
)

# Whose access was taken away. An empty channel id means every channel. Each change of this table increments the counter
# `revocations_version` in `log_info`.
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
