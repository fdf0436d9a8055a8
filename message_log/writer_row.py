"""The row of this process in `writers`. It tells how a transaction has ended if the connection was lost meanwhile.

Every transaction that posts writes its own number into the row. Numbers only grow. When the connection is lost,
`settle` writes the row on a new connection. For that it waits for the transaction that has the row locked, if there is
one. It finds one of two things:

- **The number of the old transaction.** It was committed.
- **A smaller number.** It was not committed. Then `settle` leaves a larger number, which no transaction has. If the
  database comes to the old transaction only later, because its bytes were held up on their way, that transaction finds
  the larger number and fails. So it will never be committed, and the batch may be tried again.

A transaction whose sequences were given out by the database (see `plain_posts`) writes its heads into the row too. So
its sequences are known if it was committed.
"""

import uuid

import orjson

from message_log.postgresql_session import Driver

NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
"""PostgreSQL's clock, in microseconds since 1970."""

ON_CONFLICT_SIGN = """
ON CONFLICT (writer_id) DO UPDATE SET
    commits = CASE WHEN writers.commits < excluded.commits THEN excluded.commits END,
    seen_at = excluded.seen_at,
    heads = excluded.heads
"""
"""The end of a statement that writes the number of its transaction. It fails if `settle` has left a larger one, because
`commits` may not be null."""
_SIGN = f"INSERT INTO writers (writer_id, commits, seen_at) VALUES (%s, %s, {NOW}) {ON_CONFLICT_SIGN}"
_SETTLE = f"""
INSERT INTO writers (writer_id, commits, seen_at) VALUES (%s, %s, {NOW})
ON CONFLICT (writer_id) DO UPDATE SET
    commits = CASE WHEN writers.commits < excluded.commits - 1 THEN excluded.commits ELSE writers.commits END,
    seen_at = excluded.seen_at
RETURNING commits, heads
"""
_BE_SEEN = f"UPDATE writers SET seen_at = {NOW} WHERE writer_id = %s"


class WriterRow:
    """The row of this process. One thread uses it."""

    def __init__(self) -> None:
        self.writer_id = uuid.uuid4().hex
        self.commits = 0
        """The number of the newest transaction."""

    def begin_commit(self) -> int:
        """The number of a new transaction."""
        self.commits += 1
        return self.commits

    def sign(self, connection: Driver) -> None:
        """Writes the number of the transaction that runs on `connection`, which is the newest one."""
        connection.execute(_SIGN, (self.writer_id, self.commits))

    def settle(self, connection: Driver, commit: int) -> dict[str, int] | None:
        """Finds out how the transaction with this number has ended: the heads that it has written here, or None if it
        was not committed. This counts as soon as the transaction that runs on `connection` is committed.

        If that is not known, it may be called again. No other transaction may be begun in between.
        """
        self.commits = commit + 1
        row = connection.execute(_SETTLE, (self.writer_id, self.commits)).fetchone()
        if row is None or row[0] != commit:
            return None
        return {} if row[1] is None else orjson.loads(row[1])

    def be_seen(self, connection: Driver) -> None:
        """Writes down that this process lives. If it has no row, it changes nothing."""
        connection.execute(_BE_SEEN, (self.writer_id,))
