"""The first tables: counters, messages, totals, and the table that says how an unknown commit ended."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.create_table(
        "log_info",
        sa.Column("id", sa.SmallInteger, primary_key=True, autoincrement=False),
        sa.Column("epoch", _text(), nullable=False),
        sa.CheckConstraint("id = 1", name="log_info_one_row"),
    )
    # Every commit updates counters and totals. With free room in their pages, these updates need not touch the index.
    op.create_table(
        "channels",
        sa.Column("channel_id", _text(), primary_key=True),
        sa.Column("last_sequence", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "messages",
        sa.Column("channel_id", _text(), primary_key=True),
        sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("timestamp", sa.BigInteger, nullable=False),
        sa.Column("author", _text(), nullable=False),
        sa.Column("lane", _text()),
        sa.Column("provider", _text()),
        sa.Column("token_count", sa.Integer),
        sa.Column("idempotency_key", _text()),
        sa.Column("content", _text(), nullable=False),
    )
    op.create_index("messages_by_time", "messages", ["timestamp", "channel_id", "sequence"])
    with_key = sa.text("idempotency_key IS NOT NULL")
    op.create_index(
        "messages_by_key",
        "messages",
        ["channel_id", "author", "idempotency_key"],
        unique=True,
        sqlite_where=with_key,
        postgresql_where=with_key,
    )
    op.create_table(
        "totals",
        sa.Column("channel_id", _text(), primary_key=True),
        sa.Column("provider", _text(), primary_key=True),
        sa.Column("lane", _text(), primary_key=True),
        sa.Column("messages", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "writers",
        sa.Column("writer_id", _text(), primary_key=True),
        sa.Column("commits", sa.BigInteger, nullable=False),
        sa.Column("seen_at", sa.BigInteger, nullable=False),
        postgresql_with={"fillfactor": 50},
    )
