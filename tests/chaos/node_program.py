"""A node for the chaos tests: `server.py` with a clock that may jump and, to prove the checker, seeded bugs.

`CHAOS_CLOCK` names a file that holds the seconds by which the clock that stamps messages is off. `CHAOS_BUGS` lists
bugs, separated by commas; see `BUGS`.
"""

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import server
from delivery.hub import Hub
from message_log import postgresql
from message_log.batch import Batch
from message_log.hints import Hints
from message_log.protocol import Commit, LogListener
from message_log.sql import SqlMessageLog
from messages import Draft

COMMIT_SECONDS = 0.05
"""How long after its delivery the buggy node commits: a fault must be able to fall between the two."""


def hints_lost() -> None:
    """Whatever a node commits, the others are not told."""
    Hints.announce = lambda self, commit: None  # type: ignore[method-assign]


def no_sweep() -> None:
    """The heads of live channels are never read again."""

    async def never(self: Hub) -> None:
        await asyncio.Event().wait()

    Hub._sweep_heads = never  # type: ignore[method-assign]


def delivered_before_commit() -> None:
    """Messages go to subscribers as soon as their sequences are known, before their transaction is committed."""
    publish: list[Callable[[Batch], None]] = []
    open_log = SqlMessageLog.open

    async def open_and_remember(self: SqlMessageLog, listener: LogListener) -> None:
        loop = asyncio.get_running_loop()
        publish.append(lambda batch: loop.call_soon_threadsafe(listener.committed, Commit(batch.messages)) and None)
        await open_log(self, listener)

    write = postgresql.PostgresqlDialect._write

    def publish_and_write(connection: Any, batch: Batch, rows: str, drafts: Sequence[Draft], heads: Any) -> None:
        publish[-1](batch)
        time.sleep(COMMIT_SECONDS)
        write(connection, batch, rows, drafts, heads)

    SqlMessageLog.open = open_and_remember  # type: ignore[method-assign]
    postgresql.PostgresqlDialect._write = staticmethod(publish_and_write)  # type: ignore[method-assign]


def resume_off_by_one() -> None:
    """A cursor stands for the position before its own."""
    from resolvers import subscribe

    position_of = subscribe.position_of
    subscribe.position_of = lambda *arguments: max(0, position_of(*arguments) - 1)  # type: ignore[assignment]


BUGS = {bug.__name__: bug for bug in (hints_lost, no_sweep, delivered_before_commit, resume_off_by_one)}


class JumpingClock:
    """The time of day, off by as many seconds as a file says."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> datetime:
        try:
            off = float(self._path.read_text())
        except (OSError, ValueError):  # not there, or being written
            off = 0.0
        return datetime.now(UTC) + timedelta(seconds=off)


def main() -> int:
    for name in filter(None, os.environ.get("CHAOS_BUGS", "").split(",")):
        BUGS[name]()
    if clock := os.environ.get("CHAOS_CLOCK"):
        server.SqlMessageLog = partial(SqlMessageLog, now=JumpingClock(Path(clock)))  # type: ignore[misc,assignment]
    return server.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
