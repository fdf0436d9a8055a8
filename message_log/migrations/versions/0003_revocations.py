"""Whose access was taken away, and a counter that every change of that table increments."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    op.add_column("log_info", sa.Column("revocations_version", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "revocations",
        sa.Column("author", _text(), primary_key=True),
        sa.Column("channel_id", _text(), primary_key=True),
        sa.Column("until", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_by", _text(), nullable=False),
        sqlite_with_rowid=False,
    )
