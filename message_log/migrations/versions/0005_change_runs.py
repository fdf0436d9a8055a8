"""Pieces that were committed together are one row, and few rows of changes are in the index by message.

Rows that exist already stay as they are: each is one change, and is in the index.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("changes", sa.Column("run", sa.Integer, nullable=False, server_default="1"))
    op.add_column("changes", sa.Column("cuts", sa.Text().with_variant(sa.Text(collation="C"), "postgresql")))
    op.add_column("changes", sa.Column("span", sa.Integer, nullable=False, server_default="1"))
    op.drop_index("changes_by_message", "changes")
    mark = sa.text("span > 0")
    op.create_index(
        "changes_by_message",
        "changes",
        ["channel_id", "message_sequence", "revision"],
        unique=True,
        sqlite_where=mark,
        postgresql_where=mark,
    )
