"""The checker accepts what is right and finds each kind of wrong, with a proof that cannot be shortened."""

from dataclasses import replace

import pytest

from tests.chaos.checker import check, report
from tests.chaos.history import (
    Acknowledged,
    Began,
    BeganChanges,
    Changed,
    ChangeDelivered,
    ChangeUnknown,
    Changing,
    Delivered,
    Disconnected,
    Ended,
    Fault,
    History,
    Posted,
    Restoring,
    Revoked,
    Shows,
    Standing,
    Stored,
    StoredChange,
    Unknown,
)


def good() -> History:
    """Two subscribers, one of them from 2 on and disconnected once, three messages, one tried again."""
    return History(
        [
            Posted(1.0, "c", "p", "one", "a"),
            Acknowledged(1.1, "c", "p", "one", 1),
            Began(1.2, "c", "s", 0),
            Delivered(1.3, "c", "s", 1, "one"),
            Posted(2.0, "c", "p", "two", "a"),
            Fault(2.1, "kill -9 of node a"),
            Unknown(2.2, "c", "p", "two", "reset"),
            Disconnected(2.2, "c", "s", None),
            Posted(2.3, "c", "p", "two", "b"),
            Acknowledged(2.4, "c", "p", "two", 2),
            Began(2.5, "c", "t", 2),
            Delivered(2.6, "c", "s", 2, "two"),
            Posted(3.0, "c", "q", "three", "b"),
            Unknown(3.1, "c", "q", "three", "timeout"),
            Delivered(3.2, "c", "t", 3, "three"),
            Delivered(3.3, "c", "s", 3, "three"),
            Revoked(3.4, "c", "s"),
            Restoring(6.0, "c", "s"),
            Posted(3.5, "c", "q", "never stored", "b"),
            Ended(9.0, "c", "s"),
            Ended(9.0, "c", "t"),
        ],
        [Stored("c", 1, "one"), Stored("c", 2, "two"), Stored("c", 3, "three")],
    )


def good_changes() -> History:
    """A message that grows and is edited, one that is erased, and a follower that is disconnected once."""
    return History(
        [
            BeganChanges(1.0, "c", "f", 0),
            Changing(1.1, "c", "p", 1, 1, "APPENDED", "+"),
            Changed(1.2, "c", "p", 1, 1, "APPENDED", "+"),
            ChangeDelivered(1.3, "c", "f", 1, 1, 1, "APPENDED", "+"),
            Changing(2.0, "c", "p", 1, 2, "EDITED", "new"),
            ChangeUnknown(2.1, "c", "p", 1, 2, "reset"),
            Disconnected(2.1, "c", "f", None),
            Changing(2.2, "c", "p", 1, 2, "EDITED", "new"),
            Changed(2.3, "c", "p", 1, 2, "EDITED", "new"),
            ChangeDelivered(2.4, "c", "f", 2, 1, 2, "EDITED", "new"),
            Changing(3.0, "c", "p", 2, 1, "EDITED", "secret"),
            Changed(3.1, "c", "p", 2, 1, "EDITED", "secret"),
            ChangeDelivered(3.2, "c", "f", 3, 2, 1, "EDITED", "secret"),
            Changing(3.3, "c", "p", 2, 2, "ERASED", None),
            Changed(3.4, "c", "p", 2, 2, "ERASED", None),
            ChangeDelivered(3.5, "c", "f", 4, 2, 2, "ERASED", None),
            Shows(9.0, "c", "f", 1, "new", 2, True, False),
            Shows(9.0, "c", "f", 2, "", 2, True, True),
            Ended(9.1, "c", "f"),
        ],
        [
            StoredChange("c", 1, 1, 1, "APPENDED", "+"),
            StoredChange("c", 2, 1, 2, "EDITED", "new"),
            StoredChange("c", 3, 2, 1, "EDITED", None),
            StoredChange("c", 4, 2, 2, "ERASED", None),
            Standing("c", 1, "new", 2, True, False),
            Standing("c", 2, "", 2, True, True),
        ],
    )


def test_checker_good_history_has_no_violation() -> None:
    assert check(good()) == []
    assert check(good_changes()) == []
    assert check(History()) == []


def spoiled(kind: str) -> History:
    history = good_changes() if kind in CHANGE_KINDS else good()
    events, log = history.events, history.log
    if kind == "log gap":
        log[2] = replace(log[2], sequence=4)
    elif kind == "log repeat":
        log.append(Stored("c", 4, "two"))
    elif kind == "invented":
        log.append(Stored("c", 4, "four"))
    elif kind == "lost":
        events.insert(0, Acknowledged(0.1, "c", "p", "never stored", 4))
    elif kind == "two answers":
        events.append(Acknowledged(9.5, "c", "p", "two", 3))
    elif kind in ("not in log", "disagree"):
        events[14] = Delivered(3.2, "c", "t", 3, "something else")
    elif kind == "skipped":
        del events[11]
    elif kind == "repeated":
        events.insert(12, Delivered(2.7, "c", "s", 2, "two"))
    elif kind == "fell short":
        del events[15]
    elif kind == "heard on":
        events[15] = replace(events[15], at=5.5)
        events[15:18] = [events[16], events[15], events[17]]
    elif kind == "change gap":
        log[3] = StoredChange("c", 5, 2, 2, "ERASED", None)
    elif kind == "change repeat":
        log.append(StoredChange("c", 5, 1, 3, "APPENDED", "+"))
    elif kind == "change invented":
        log.append(StoredChange("c", 5, 1, 3, "APPENDED", "nobody's"))
    elif kind == "change lost":
        events.insert(0, Changed(0.1, "c", "p", 1, 3, "EDITED", "gone"))
    elif kind == "change not in log":
        events[3] = ChangeDelivered(1.3, "c", "f", 1, 1, 1, "APPENDED", "-")
    elif kind == "change skipped":
        del events[9]
    elif kind == "change repeated":
        events.insert(10, ChangeDelivered(2.5, "c", "f", 2, 1, 2, "EDITED", "new"))
    elif kind == "change fell short":
        del events[15]
    elif kind == "differs":
        events[16] = Shows(9.0, "c", "f", 1, "old+", 1, True, False)
    return history


CHANGE_KINDS = [
    "change gap",
    "change repeat",
    "change invented",
    "change lost",
    "change not in log",
    "change skipped",
    "change repeated",
    "change fell short",
    "differs",
]
KINDS = [
    *CHANGE_KINDS,
    "log gap",
    "log repeat",
    "invented",
    "lost",
    "two answers",
    "not in log",
    "disagree",
    "skipped",
    "repeated",
    "fell short",
    "heard on",
]


@pytest.mark.parametrize("kind", KINDS)
def test_checker_spoiled_history_is_found_with_the_shortest_proof(kind: str) -> None:
    history = spoiled(kind)
    violations = check(history)
    found = next(violation for violation in violations if violation.kind == kind)
    proof = found.history
    assert kind in {violation.kind for violation in check(proof)}
    for i in range(len(proof.events)):
        fewer = History(proof.events[:i] + proof.events[i + 1 :], proof.log)
        assert kind not in {v.kind for v in check(fewer) if v.text == found.text}, "every event is needed"
    for i in range(len(proof.log)):
        fewer = History(proof.events, proof.log[:i] + proof.log[i + 1 :])
        assert kind not in {v.kind for v in check(fewer) if v.text == found.text}, "every entry is needed"
    assert found.text in report(history, violations, most=99)


def test_checker_shows_the_shortest_proof_first_and_the_faults_around_it() -> None:
    history = spoiled("skipped")
    history.events.append(Acknowledged(9.6, "c", "p", "gone", 9))
    violations = check(history)
    assert [violation.size for violation in violations] == sorted(violation.size for violation in violations)
    assert violations[0].kind == "lost"
    told = report(history, violations)
    assert "-- kill -9 of node a" in told
    assert told.index("s receives c:1") < told.index("-- kill -9") < told.index("s receives c:3")


def test_checker_keeps_channels_apart() -> None:
    history = good()
    history.events += [replace(event, channel_id="d") for event in good().events if not isinstance(event, Fault)]
    history.log += [replace(entry, channel_id="d") for entry in good().log]
    assert check(history) == []
    history.log.pop()
    assert {violation.channel_id for violation in check(history)} == {"d"}
