"""Checks what a history says about changes. It does no I/O, like `checker`.

What must hold, in each channel:

| violation            | what must hold                                                                      |
|----------------------|-------------------------------------------------------------------------------------|
| `change gap`         | the changes in the log have the sequences 1, 2, 3 …, and each message the revisions 1, 2, 3 … |
| `change repeat`      | no piece and no new content is in the log twice, also if it was tried twice         |
| `change invented`    | every change in the log was asked for                                               |
| `change lost`        | an acknowledged change is in the log, with the revision that its author was told    |
| `change not in log`  | a change that a follower received is the one that the log has under that sequence   |
| `change skipped`     | no change is missing between two that a follower received                           |
| `change repeated`    | a follower receives no change twice or late, over all of its connections            |
| `change fell short`  | a follower that stayed to the end has received every change up to the end of the log |
| `differs`            | in the end, a follower shows each message as the log has it                         |

Texts are unique, so a text identifies a change. Texts of erased messages are no longer in the log and are not compared.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from tests.chaos.history import (
    BeganChanges,
    Changed,
    ChangeDelivered,
    Changing,
    Ended,
    Event,
    Shows,
    Standing,
    StoredChange,
)

Found = tuple[Any, ...]
"""A violation: its kind, a text, and the events and entries of the log that prove it."""


def change_violations(events: Sequence[Event], log: Sequence[StoredChange | Standing]) -> Iterator[Found]:
    """Every violation in one channel. `log` may be in any order."""
    changes = sorted((each for each in log if isinstance(each, StoredChange)), key=lambda change: change.sequence)
    standing = {each.sequence: each for each in log if isinstance(each, Standing)}
    yield from _in_log(events, changes)
    yield from _in_answers(events, changes)
    yield from _in_deliveries(events, {change.sequence: change for change in changes})
    for event in events:
        if isinstance(event, Shows) and (said := standing.get(event.sequence)) is not None:
            shown = event.text, event.revision, event.complete, event.erased
            if shown != (said.text, said.revision, said.complete, said.erased):
                yield "differs", f"{event.subscriber} does not show {event.sequence} as it is", event, said


def _in_log(events: Sequence[Event], changes: Sequence[StoredChange]) -> Iterator[Found]:
    asked = {
        (event.message, event.revision, event.kind, text)
        for event in events
        if isinstance(event, Changing)
        for text in (event.text, None)
    }
    previous: StoredChange | None = None
    newest: dict[int, StoredChange] = {}
    first_of: dict[tuple[int, str, str | None], StoredChange] = {}
    for change in changes:
        if previous is None and change.sequence != 1:
            yield "change gap", f"the changes begin with {change.sequence}", change
        elif previous is not None and change.sequence != previous.sequence + 1:
            yield "change gap", f"change {previous.sequence} is followed by {change.sequence}", previous, change
        previous = change
        before = newest.get(change.message)
        if before is None and change.revision != 1:
            yield "change gap", f"the revisions of {change.message} begin with {change.revision}", change
        elif before is not None and change.revision != before.revision + 1:
            text = f"revision {before.revision} of {change.message} is followed by {change.revision}"
            yield "change gap", text, before, change
        newest[change.message] = change
        name = change.message, change.kind, change.text
        again = change.text is not None or change.kind in ("COMPLETED", "ERASED")
        first = first_of.setdefault(name, change)
        if again and first is not change:
            yield "change repeat", f"{change.kind} {change.text!r} was done twice to {change.message}", first, change
        elif (change.message, change.revision, change.kind, change.text) not in asked:
            yield "change invented", f"nobody asked for change {change.sequence}", change


def _in_answers(events: Sequence[Event], changes: Sequence[StoredChange]) -> Iterator[Found]:
    made = {(change.message, change.revision): change for change in changes}
    for event in events:
        if not isinstance(event, Changed):
            continue
        change = made.get((event.message, event.revision))
        if change is None:
            text = f"revision {event.revision} of {event.message} was acknowledged and is not in the log"
            yield "change lost", text, event
        elif change.kind != event.kind or change.text not in (None, event.text):
            text = f"revision {event.revision} of {event.message} is not what was acknowledged"
            yield "change lost", text, event, change


def _in_deliveries(events: Sequence[Event], changes: dict[int, StoredChange]) -> Iterator[Found]:
    last: dict[str, BeganChanges | ChangeDelivered] = {}
    for event in events:
        if isinstance(event, BeganChanges):
            last[event.subscriber] = event
        elif isinstance(event, ChangeDelivered):
            before = last.get(event.subscriber)
            if before is not None and event.sequence != before.sequence + 1:
                kind = "change skipped" if event.sequence > before.sequence else "change repeated"
                text = f"{event.subscriber} received change {event.sequence} after {before.sequence}"
                yield kind, text, before, event
            last[event.subscriber] = event
            change = changes.get(event.sequence)
            if change is None:
                yield "change not in log", f"the log has no change {event.sequence}", event
            elif (change.message, change.revision, change.kind) != (event.message, event.revision, event.kind) or (
                None not in (change.text, event.text) and change.text != event.text
            ):
                yield "change not in log", f"change {event.sequence} was delivered as another", event, change
        elif isinstance(event, Ended):
            before = last.get(event.subscriber)
            missing = None if before is None else changes.get(before.sequence + 1)
            if before is not None and missing is not None:
                text = f"{event.subscriber} never received change {missing.sequence}"
                yield "change fell short", text, before, event, missing
