"""A node for the chaos tests: `server.py` with a clock that may jump, and with bugs that the checker has to find.

`CHAOS_CLOCK` names a file with a number of seconds: the clock that gives messages their timestamps is wrong by so much.
`CHAOS_HINTS` names a file that says what happens to the hints of other nodes (see `TROUBLES`). `CHAOS_BUGS` lists bugs,
separated by commas (see `BUGS`).
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import orjson

import server
from changes import ChangeDraft
from delivery.hub import Hub
from delivery.hubs import Hubs
from delivery.inflow import Inflow
from message_log import hints, postgresql, wire
from message_log.batch import Batch
from message_log.change_batch import ChangePlan
from message_log.hints import Hints
from message_log.protocol import Appended, Commit, Entry, LogListener
from message_log.revocation_watch import RevocationWatch
from message_log.sql import SqlMessageLog
from messages import Draft, Message

COMMIT_SECONDS = 0.05
"""How long after a delivery the buggy node commits the message. A fault must be able to happen in between."""

LATE_SECONDS = 3.0
"""How long after a change the buggy node updates what it keeps of the message. Others must be able to read in
between."""


def hints_lost() -> None:
    """A node does not tell the others what it commits."""
    Hints.announce = lambda self, commit: None  # type: ignore[method-assign]


def no_sweep() -> None:
    """The heads of live channels are never read after the start."""

    async def never(self: Hub) -> None:
        await asyncio.Event().wait()

    Hub._sweep_heads = never  # type: ignore[method-assign]


def delivered_before_commit() -> None:
    """Messages are delivered as soon as their sequences are known, before their transaction is committed."""
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
    postgresql.all_plain = lambda drafts: False  # In one round trip the sequences are known only after the commit.


def resume_off_by_one() -> None:
    """A cursor means the position before the right one."""
    from resolvers import subscribe

    position_of = subscribe.position_of
    subscribe.position_of = lambda *given, **named: max(0, position_of(*given, **named) - 1)  # type: ignore[assignment]


def early_hint_trusted() -> None:
    """Messages are delivered at once, although earlier ones have not come yet."""

    def whatever_came(self: Inflow) -> list[Entry]:
        run: list[Entry] = []
        waiting, self._put_back = [self._put_back], None
        while not self._queue.empty():
            waiting.append(self._queue.get_nowait())
        self._queue_bytes = 0
        for entry in waiting:
            if entry is not None and entry.sequence > (run[-1].sequence if run else self.head):
                run.append(entry)
        return run

    Inflow._drain = whatever_came  # type: ignore[method-assign]


def foreign_hint_trusted() -> None:
    """Hints are believed, also if they belong to another log."""
    decode = wire.decode

    def believe(payload: str | bytes, log_name: str, epoch: str) -> list[wire.Told]:
        with suppress(ValueError, IndexError, AttributeError):
            log_name = orjson.loads(payload)[0].partition(":")[2]
        return decode(payload, log_name, epoch)

    hints.decode = believe


def revocations_unwatched() -> None:
    """A node knows only its own revocations, and never reads those of others."""

    async def never(self: RevocationWatch) -> None:
        await asyncio.Event().wait()

    RevocationWatch._watch = never  # type: ignore[method-assign]


def piece_again() -> None:
    """A piece that is sent again is appended again."""
    append = ChangePlan._append

    def whatever_came(self: ChangePlan, draft: ChangeDraft, message: Message) -> Appended:
        self._made.clear()
        return append(self, replace(draft, revision=message.revision), replace(message, complete=False))

    ChangePlan._append = whatever_came  # type: ignore[method-assign]


def changes_come_first() -> None:
    """A change is delivered at once, but what the node keeps of its message is only updated seconds later."""
    restate, reached = Hubs._restate, Hubs._reached

    def later(do: Callable[..., None]) -> Callable[..., None]:
        def call(self: Hubs, *given: Any) -> None:
            asyncio.get_running_loop().call_later(LATE_SECONDS, do, self, *given)

        return call

    Hubs._restate = later(restate)  # type: ignore[method-assign]
    Hubs._reached = later(reached)  # type: ignore[method-assign]


def pages_kept() -> None:
    """A page that was read once is shown again, although its messages were changed since."""
    read, kept = SqlMessageLog.page, dict[str, Any]()

    async def page(self: SqlMessageLog, channel_id: str, **asked: Any) -> Any:
        key = f"{channel_id} {asked}"
        if key not in kept:
            kept[key] = await read(self, channel_id, **asked)
        return kept[key]

    SqlMessageLog.page = page  # type: ignore[method-assign,assignment]


BUGS = {
    bug.__name__: bug
    for bug in (
        hints_lost,
        no_sweep,
        delivered_before_commit,
        resume_off_by_one,
        early_hint_trusted,
        foreign_hint_trusted,
        revocations_unwatched,
        piece_again,
        changes_come_first,
        pages_kept,
    )
}

Hear = Callable[[Hints, str, str], None]


def _lost(hear: Hear, hints: Hints, channel: str, payload: str) -> None:
    """The hint never comes."""


def _doubled(hear: Hear, hints: Hints, channel: str, payload: str) -> None:
    """The hint comes at once, and again within two seconds."""
    hear(hints, channel, payload)
    asyncio.get_running_loop().call_later(random.uniform(0, 2), hear, hints, channel, payload)


def _shuffled(hear: Hear, hints: Hints, channel: str, payload: str) -> None:
    """Each entry of the hint comes alone, in any order."""
    try:
        entries = wire.decode(payload, hints._name, hints._epoch)
    except wire.NotForThisLog:
        entries = []
        hear(hints, channel, payload)
    random.shuffle(entries)
    for entry in entries:
        (part,) = wire.encode([entry], hints._name)
        asyncio.get_running_loop().call_later(random.uniform(0, 0.05), hear, hints, channel, part.decode())


def _late(hear: Hear, hints: Hints, channel: str, payload: str) -> None:
    """The hint comes seconds later."""
    asyncio.get_running_loop().call_later(random.uniform(0.5, 4), hear, hints, channel, payload)


TROUBLES = {"lost": _lost, "doubled": _doubled, "shuffled": _shuffled, "late": _late}


def trouble_hints(path: Path) -> None:
    """From now on the hints that this node receives have the trouble that the file names, if it names one."""
    hear = Hints._hear

    def troubled(self: Hints, channel: str, payload: str) -> None:
        try:
            trouble = TROUBLES.get(path.read_text())
        except OSError:
            trouble = None
        if trouble is None:
            hear(self, channel, payload)
        else:
            trouble(hear, self, channel, payload)

    Hints._hear = troubled  # type: ignore[method-assign]


class JumpingClock:
    """The time of day, wrong by as many seconds as a file says."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> datetime:
        try:
            off = float(self._path.read_text())
        except (OSError, ValueError):  # the file does not exist yet, or is being written
            off = 0.0
        return datetime.now(UTC) + timedelta(seconds=off)


def main() -> int:
    for name in filter(None, os.environ.get("CHAOS_BUGS", "").split(",")):
        BUGS[name]()
    if trouble := os.environ.get("CHAOS_HINTS"):
        trouble_hints(Path(trouble))
    if clock := os.environ.get("CHAOS_CLOCK"):
        server.SqlMessageLog = partial(SqlMessageLog, now=JumpingClock(Path(clock)))  # type: ignore[misc,assignment]
    return server.main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
