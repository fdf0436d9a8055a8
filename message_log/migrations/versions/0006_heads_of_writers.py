"""The row of a process in `writers` has the heads that its newest commit has given to its channels."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("writers", sa.Column("heads", sa.Text().with_variant(sa.Text(collation="C"), "postgresql")))
