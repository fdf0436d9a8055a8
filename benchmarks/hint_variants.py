"""A node that tells the other nodes about its commits in a different way. The benchmark compares these ways.

`HINT_VARIANT` names the way. `with messages` is the server as it is. `sequences alone` tells only the newest sequence
of each channel, so the others have to read the log. `in transaction` runs NOTIFY inside each posting transaction.
`sweep alone` tells nothing, so the others find messages only by reading the heads.
"""

import os
import sys
from typing import Any

import server
from message_log import postgresql
from message_log.hints import PAYLOAD_BYTES_MAX, Hints
from message_log.protocol import Commit
from message_log.wire import Reached, encode


def main() -> int:
    variant = os.environ.get("HINT_VARIANT", "with messages")
    if variant == "sequences alone":

        def announce_sequences(self: Hints, commit: Commit) -> None:
            reached = {message.channel_id: Reached.by(message) for message in commit.messages}
            self._gathered += reached.values()
            self._news.set()

        Hints.announce = announce_sequences  # type: ignore[method-assign]
    elif variant != "with messages":
        Hints.announce = lambda self, commit: None  # type: ignore[method-assign]
    if variant == "in transaction":
        write, begin = postgresql.PostgresqlDialect._write, Hints.__init__
        made: list[Hints] = []

        def begin_and_remember(self: Hints, *arguments: Any, **named: Any) -> None:
            begin(self, *arguments, **named)
            made.append(self)

        def write_and_notify(connection: Any, batch: Any, rows: str, drafts: Any, heads: Any) -> None:
            write(connection, batch, rows, drafts, heads)
            for payload in encode(batch.messages, made[-1]._name, bytes_max=PAYLOAD_BYTES_MAX):
                connection.execute("SELECT pg_notify(%s, %s)", (made[-1].notify_channel, payload.decode()))

        Hints.__init__ = begin_and_remember  # type: ignore[method-assign]
        postgresql.PostgresqlDialect._write = staticmethod(write_and_notify)  # type: ignore[method-assign]
        # So that no transaction consists of one statement alone, to which nothing can be added.
        postgresql.all_plain = lambda drafts: False
    return server.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
