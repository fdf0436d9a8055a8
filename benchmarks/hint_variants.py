"""A node that tells the others of its commits in another way, named by `HINT_VARIANT`: what the benchmark compares.

`coalesced` is the server as it is. `in transaction` runs NOTIFY inside each posting transaction. `sweep alone` tells
nobody: the others find out by reading the heads.
"""

import os
import sys
from typing import Any

import server
from message_log import postgresql
from message_log.hints import NOTIFY_CHANNEL, Hints, encode_hints


def main() -> int:
    variant = os.environ.get("HINT_VARIANT", "coalesced")
    if variant != "coalesced":
        Hints.announce = lambda self, messages: None  # type: ignore[method-assign]
    if variant == "in transaction":
        write = postgresql.PostgresqlDialect._write

        def write_and_notify(connection: Any, batch: Any, rows: str, drafts: Any, heads: Any) -> None:
            write(connection, batch, rows, drafts, heads)
            for payload in encode_hints(batch.heads.items()):
                connection.execute("SELECT pg_notify(%s, %s)", (NOTIFY_CHANNEL, payload))

        postgresql.PostgresqlDialect._write = staticmethod(write_and_notify)  # type: ignore[method-assign]
    return server.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
