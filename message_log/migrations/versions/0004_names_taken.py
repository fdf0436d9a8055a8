"""A counter that is incremented when an author's name is removed from changes, so that every process notices."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("log_info", sa.Column("names_taken", sa.BigInteger, nullable=False, server_default="0"))
