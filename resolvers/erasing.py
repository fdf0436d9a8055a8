"""Erases what an author has posted, in batches. It can be interrupted at any time and run again."""

import asyncio
from collections.abc import Callable

from changes import ChangeDraft, MessageChangeKind
from errors import BadUserInput
from message_log.protocol import MessageLog

LOOKED_AT = 5_000
"""Messages, or changes, that are looked at in one step, which takes about 10 ms."""
BATCH = 200
"""Messages that are erased at the same time. They take one or two commits, and posts are stored in between."""
CHANNELS_PER_READ = 1000

Progress = Callable[[int], object]
"""Called with the number of messages erased so far."""


async def erase_author(log: MessageLog, author: str, *, by: str | None, progress: Progress | None = None) -> int:
    """Erases every message of an author, and removes the name from them and from the changes that the author made to
    the messages of others. Returns how many messages were erased.

    What the author posts meanwhile may stay. A message that was erased before only loses the name, and is not counted.

    Raises:
        Unavailable: the log cannot answer; what was erased stays erased, and a repeat erases the rest.
    """
    erased = 0
    after: tuple[str, int] | None = None
    while True:
        places, after = await log.posted_by(author, after=after, limit=LOOKED_AT)
        for start in range(0, len(places), BATCH):
            erased += sum(await asyncio.gather(*(_erase(log, place, by) for place in places[start : start + BATCH])))
            if progress is not None:
                progress(erased)
        if after is None:
            break
    await _take_name(log, author)
    await log.scrub()
    return erased


async def _erase(log: MessageLog, place: tuple[str, int], by: str | None) -> bool:
    standing = await log.message(*place)
    try:
        draft = ChangeDraft(*place, MessageChangeKind.ERASED, by=by, forgets_author=True)
        outcome = await log.change(draft)
    except BadUserInput:  # Retention has taken it meanwhile.
        return False
    return outcome.created and (standing is None or standing.erased_at is None)


async def _take_name(log: MessageLog, author: str) -> None:
    after: str | None = None
    while channels := await log.channels(after=after, limit=CHANNELS_PER_READ):
        heads = await log.changes.last_sequences([channel.channel_id for channel in channels])
        for channel_id, last in heads.items():
            for start in range(0, last, LOOKED_AT):
                await log.take_name(author, channel_id, start, start + LOOKED_AT)
        after = channels[-1].channel_id
