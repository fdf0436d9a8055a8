"""Checks a history and returns its violations. It does no I/O.

What must hold, in each channel:

| violation     | what must hold                                                                             |
|---------------|--------------------------------------------------------------------------------------------|
| `log gap`     | the sequences in the log are 1, 2, 3 …                                                     |
| `log repeat`  | no content is in the log twice, also if its post was tried twice                           |
| `invented`    | every message in the log was posted                                                        |
| `lost`        | an acknowledged post is in the log, with the sequence that its publisher was told          |
| `two answers` | a post that was acknowledged more than once was given the same sequence each time          |
| `not in log`  | a message that a subscriber received is the one that the log has under that sequence       |
| `disagree`    | subscribers that received a sequence received the same message                             |
| `skipped`     | no message is missing between two that a subscriber received                               |
| `repeated`    | a subscriber receives no message twice or late, over all of its connections                |
| `fell short`  | a subscriber that stayed to the end has received everything up to the end of the log       |
| `heard on`    | a second after a revocation was acknowledged, its author receives nothing more             |

`change_checker` says what must hold for changes.

Contents are unique, so a content identifies a post.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.change_checker import change_violations
from tests.chaos.history import (
    Acknowledged,
    Began,
    Delivered,
    Ended,
    Event,
    Fault,
    Held,
    History,
    Posted,
    Restoring,
    Revoked,
    Standing,
    Stored,
    StoredChange,
)

REVOKED_SECONDS = 1.0
"""A revocation takes effect on every node within this time after its acknowledgement."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule that does not hold, with the fewest events and entries of the log that show it."""

    kind: str
    channel_id: str
    text: str
    events: tuple[Event, ...] = ()
    log: tuple[Held, ...] = ()

    @property
    def size(self) -> int:
        return len(self.events) + len(self.log)

    @property
    def history(self) -> History:
        """The shortest history that shows it. If anything is left out of it, the violation is not found."""
        return History(sorted(self.events, key=lambda event: event.at), list(self.log))


def check(history: History) -> list[Violation]:
    """Every violation in a history. Those with the shortest proofs come first."""
    channels: dict[str, _Channel] = defaultdict(_Channel)
    for entry in history.log:
        if isinstance(entry, Stored):
            channels[entry.channel_id].log.append(entry)
        else:
            channels[entry.channel_id].changed.append(entry)
    for event in history.events:
        if not isinstance(event, Fault):
            channels[event.channel_id].events.append(event)
    found = [violation for channel_id in sorted(channels) for violation in channels[channel_id].violations(channel_id)]
    return sorted(found, key=lambda violation: violation.size)


def report(history: History, violations: Sequence[Violation], *, most: int = 5) -> str:
    """The violations as text: the shortest proofs, each with what the nemesis did in that time."""
    lines = [f"{len(violations)} violations; those with the shortest proof:"]
    for violation in violations[:most]:
        lines.append(f"\n{violation.kind}: {violation.text}")
        events = violation.history.events
        if events:
            # A fault that came a little earlier may also be the cause.
            begin, end = events[0].at - 2, events[-1].at
            faults = [e for e in history.events if isinstance(e, Fault) and begin <= e.at <= end]
            lines += [f"  {e.at:9.3f}  {e}" for e in sorted([*events, *faults[-10:]], key=lambda e: e.at)]
        lines += [f"      after  {entry}" for entry in violation.log]
    return "\n".join(lines)


class _Channel:
    """The part of a history that concerns one channel."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.log: list[Stored] = []
        self.changed: list[StoredChange | Standing] = []

    def violations(self, channel_id: str) -> Iterator[Violation]:
        def violation(kind: str, text: str, *proof: Event | Held) -> Violation:
            return Violation(
                kind,
                channel_id,
                text,
                tuple(part for part in proof if not isinstance(part, Held)),
                tuple(part for part in proof if isinstance(part, Held)),
            )

        self._violation = violation
        self.log.sort(key=lambda entry: entry.sequence)
        self._held = {entry.sequence: entry for entry in self.log}
        yield from self._in_log()
        yield from self._in_answers()
        yield from self._in_deliveries()
        for kind, text, *proof in change_violations(self.events, self.changed):
            yield violation(kind, text, *proof)

    def _in_log(self) -> Iterator[Violation]:
        posted = {event.content for event in self.events if isinstance(event, Posted)}
        first_of: dict[str, Stored] = {}
        previous: Stored | None = None
        for entry in self.log:
            if previous is None and entry.sequence != 1:
                yield self._violation("log gap", f"the log begins with {entry.sequence}", entry)
            elif previous is not None and entry.sequence != previous.sequence + 1:
                yield self._violation(
                    "log gap", f"{previous.sequence} is followed by {entry.sequence}", previous, entry
                )
            previous = entry
            first = first_of.setdefault(entry.content, entry)
            if first is not entry:
                yield self._violation("log repeat", f"{entry.content!r} is stored twice", first, entry)
            elif entry.content not in posted:
                yield self._violation("invented", f"nobody posted {entry.content!r}", entry)

    def _in_answers(self) -> Iterator[Violation]:
        sequences = {entry.content: entry for entry in self.log}
        answers: dict[str, Acknowledged] = {}
        for event in self.events:
            if not isinstance(event, Acknowledged):
                continue
            entry = sequences.get(event.content)
            if entry is None:
                yield self._violation("lost", f"{event.content!r} was acknowledged and is not in the log", event)
            elif entry.sequence != event.sequence:
                text = f"{event.content!r} was acknowledged as {event.sequence} and is {entry.sequence}"
                yield self._violation("lost", text, event, entry)
            first = answers.setdefault(event.content, event)
            if first.sequence != event.sequence:
                text = f"{event.content!r} was acknowledged as {first.sequence} and as {event.sequence}"
                yield self._violation("two answers", text, first, event)

    def _in_deliveries(self) -> Iterator[Violation]:
        last: dict[str, Began | Delivered] = {}
        seen: dict[int, Delivered] = {}
        out: dict[str, Revoked] = {}
        for event in self.events:
            if isinstance(event, Began):
                last[event.subscriber] = event
            elif isinstance(event, Revoked):
                out[event.subscriber] = event
            elif isinstance(event, Restoring):
                out.pop(event.subscriber, None)
            elif isinstance(event, Delivered):
                since = out.get(event.subscriber)
                if since is not None and event.at > since.at + REVOKED_SECONDS:
                    text = f"{event.subscriber} received {event.sequence}, {event.at - since.at:.1f} s after it"
                    yield self._violation("heard on", text, since, event)
                yield from self._in_delivery(event, last.get(event.subscriber), seen)
                last[event.subscriber] = event
            elif isinstance(event, Ended):
                before = last.get(event.subscriber)
                missing = None if before is None else self._held.get(before.sequence + 1)
                if before is not None and missing is not None:
                    text = f"{event.subscriber} never received {missing.sequence}"
                    yield self._violation("fell short", text, before, event, missing)

    def _in_delivery(
        self, event: Delivered, before: Began | Delivered | None, seen: dict[int, Delivered]
    ) -> Iterator[Violation]:
        if before is not None and event.sequence > before.sequence + 1:
            text = f"{event.subscriber} received {event.sequence} after {before.sequence}"
            yield self._violation("skipped", text, before, event)
        elif before is not None and event.sequence <= before.sequence:
            text = f"{event.subscriber} received {event.sequence} after {before.sequence}"
            yield self._violation("repeated", text, before, event)
        entry = self._held.get(event.sequence)
        if entry is None:
            yield self._violation("not in log", f"the log has no {event.sequence}", event)
        elif event.content is not None and entry.content != event.content:
            text = f"{event.sequence} is {entry.content!r} in the log, and was delivered as {event.content!r}"
            yield self._violation("not in log", text, event, entry)
        if event.content is None:
            return
        first = seen.setdefault(event.sequence, event)
        if first.content != event.content:
            text = f"{event.sequence} was delivered as {first.content!r} and as {event.content!r}"
            yield self._violation("disagree", text, first, event)
