"""Changes of messages after they were posted, and the messages that still grow."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # A node that still runs writes to `writers` before it writes to `channels`. Migration 0006 alters `writers`,
        # and all migrations run in one transaction. With the same order of locks there is no deadlock.
        op.execute("LOCK TABLE writers")
    op.add_column("channels", sa.Column("last_change", sa.BigInteger, nullable=False, server_default="0"))
    # On SQLite a column can only be added at the end, so these are after `content`. To read them, SQLite has to read
    # the overflow pages of a long content. But the content is read with them anyway.
    op.add_column("messages", sa.Column("revision", sa.Integer, nullable=False, server_default="0"))
    op.add_column("messages", sa.Column("complete", sa.SmallInteger, nullable=False, server_default="1"))
    op.add_column("messages", sa.Column("edited_at", sa.BigInteger))
    op.add_column("messages", sa.Column("erased_at", sa.BigInteger))
    op.add_column("messages", sa.Column("posted_digest", _text()))
    op.create_table(
        "changes",
        sa.Column("channel_id", _text(), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("message_sequence", sa.BigInteger, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("kind", sa.SmallInteger, nullable=False),
        sa.Column("edition", sa.SmallInteger, nullable=False, server_default="0"),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("token_count", sa.Integer),
        sa.Column("author", _text(), nullable=False),
        sa.Column("text", _text()),
        sqlite_with_rowid=False,
    )
    op.create_index("changes_by_message", "changes", ["channel_id", "message_sequence", "revision"], unique=True)
    op.create_table(
        "growing",
        sa.Column("channel_id", _text(), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("touched_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 50},
    )
