"""What processes tell each other: everything comes back, sizes are bounded, and nothing foreign is believed."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from changes import MessageChange, MessageChangeKind, changes_epoch
from message_log.wire import NotForThisLog, Reached, Told, decode, decode_heads, encode
from messages import SEQUENCE_MAX, Message

LOG, EPOCH = "0123456789abcdef", "an epoch"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
SEQUENCES = st.integers(1, SEQUENCE_MAX)
CHANNELS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128)
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC))
TOKENS = st.none() | st.integers(0, 2**31 - 1)
MESSAGES = st.builds(
    Message,
    CHANNELS,
    SEQUENCES,
    TEXT,
    TEXT,
    st.none() | TEXT,
    st.none() | TEXT,
    TOKENS,
    MOMENTS,
    st.just(EPOCH),
    complete=st.booleans(),
)
CHANGES = st.builds(
    MessageChange,
    CHANNELS,
    SEQUENCES,
    SEQUENCES,
    st.sampled_from(MessageChangeKind),
    st.integers(1, 2**40),
    st.none() | TEXT,
    st.none() | TEXT,
    TEXT,
    MOMENTS,
    st.just(changes_epoch(EPOCH)),
    TOKENS,
)
ENTRIES = st.lists(MESSAGES | CHANGES | st.builds(Reached, CHANNELS, SEQUENCES, st.booleans()), max_size=20)


def message(sequence: int = 1, content: str = "hello", channel_id: str = "general") -> Message:
    moment = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(microseconds=sequence)
    return Message(channel_id, sequence, "ann", content, None, "someone", 3, moment, EPOCH)


@given(ENTRIES)
def test_wire_entries_come_back_as_they_were(entries: list[Told]) -> None:
    payloads = list(encode(entries, LOG))
    assert len(payloads) == bool(entries)
    assert [entry for payload in payloads for entry in decode(payload, LOG, EPOCH)] == entries


@given(ENTRIES, st.integers(1_100, 4_000))
def test_wire_payloads_are_bounded_and_carry_every_entry_in_order(entries: list[Told], bytes_max: int) -> None:
    payloads = list(encode(entries, LOG, bytes_max=bytes_max))
    assert all(len(payload) <= bytes_max for payload in payloads)
    told = [entry for payload in payloads for entry in decode(payload.decode(), LOG, EPOCH)]
    assert [Reached.by(entry) for entry in told] == [Reached.by(entry) for entry in entries]
    for entry, as_told in zip(entries, told, strict=True):
        assert as_told == entry or isinstance(as_told, Reached)


def test_wire_message_that_is_too_long_for_a_payload_goes_without_its_body() -> None:
    entries = [message(1), message(2, "x" * 8_000), message(3)]
    (payload,) = encode(entries, LOG, bytes_max=7_900)
    assert decode(payload, LOG, EPOCH) == [entries[0], Reached("general", 2), entries[2]]


def test_wire_what_was_stated_anew_is_not_told_in_its_earlier_form() -> None:
    changed = replace(message(1), revision=1)
    change = MessageChange(
        "general", 5, 1, MessageChangeKind.APPENDED, 1, None, None, "ann", changed.timestamp, EPOCH, edition=1
    )
    (payload,) = encode([changed, change], LOG)
    assert decode(payload, LOG, EPOCH) == [Reached("general", 1), Reached("general", 5, True)]


def test_wire_short_messages_share_a_payload() -> None:
    assert len(list(encode([message(i) for i in range(1, 60)], LOG, bytes_max=7_900))) == 1


@pytest.mark.parametrize("sender", ["", "other", LOG[:-1], LOG + "0"])
def test_wire_payload_of_another_log_is_refused(sender: str) -> None:
    (payload,) = encode([message()], sender)
    with pytest.raises(NotForThisLog):
        decode(payload, LOG, EPOCH)


@pytest.mark.parametrize(
    "body",
    [
        ["2026", "ann", "hello", None, None, None, True],
        [10**30, "ann", "hello", None, None, None, True],
        [10**18, "ann", "hello", None, None, None, True],
        [1, None, "hello", None, None, None, True],
        [1, "ann", {"a": 1}, None, None, None, True],
        [1, "ann", "hello", 1, None, None, True],
        [1, "ann", "hello", None, [], None, True],
        [1, "ann", "hello", None, None, "3", True],
        [1, "ann", "hello", None, None, True, True],
        [1, "ann", "hello", None, None, None],
        [1, "ann", "hello", None, None, None, 1],
        [2, "APPENDED", 1, "piece", None, "ann", 5, None],
        {},
        "hello",
    ],
)
def test_wire_body_that_is_none_spoils_its_payload(body: object) -> None:
    payload = json.dumps([f"1:{LOG}", ["general", 1], body])
    with pytest.raises(NotForThisLog):
        decode(payload, LOG, EPOCH)


@pytest.mark.parametrize(
    "body",
    [
        [0, "APPENDED", 1, "piece", None, "ann", 5, None],
        [2, "DELETED", 1, "piece", None, "ann", 5, None],
        [2, "APPENDED", "1", "piece", None, "ann", 5, None],
        [2, "APPENDED", 1, 7, None, "ann", 5, None],
        [2, "APPENDED", 1, "piece", None, "ann", 10**30, None],
        [1, "ann", "hello", None, None, None, True],
    ],
)
def test_wire_body_that_is_no_change_spoils_its_payload(body: object) -> None:
    with pytest.raises(NotForThisLog):
        decode(json.dumps([f"1:{LOG}", ["general", 1, "change"], body]), LOG, EPOCH)


@pytest.mark.parametrize(
    "payload", ["", "x", "{}", "1", "null", '"1:0123456789abcdef"', "[", "[" * 2_000 + "]" * 2_000, "\ud800"]
)
def test_wire_garbage_is_refused(payload: str) -> None:
    with pytest.raises(NotForThisLog):
        decode(payload, LOG, EPOCH)
    with pytest.raises(NotForThisLog):
        decode_heads(payload)


@given(st.text() | st.binary())
def test_wire_anything_else_is_refused_or_read(payload: str | bytes) -> None:
    for read in (lambda: decode(payload, LOG, EPOCH), lambda: decode_heads(payload)):
        try:
            entries = read()
        except NotForThisLog:
            continue
        assert all(isinstance(entry, Reached) for entry in entries)


@pytest.mark.parametrize("head", [["general", 0], ["general", -1], ["general", True], ["general", 2**53], [1, 1], []])
def test_wire_head_that_is_none_spoils_its_payload(head: object) -> None:
    with pytest.raises(NotForThisLog):
        decode(orjson.dumps([f"1:{LOG}", head]), LOG, EPOCH)


def test_wire_payload_of_another_version_tells_how_far_channels_have_come() -> None:
    heads = [
        ["general", 4],
        {"content": "in a form to come"},
        ["other", 9, "change"],
        ["other", 9, "in time"],
    ]
    later = orjson.dumps([f"2:{LOG}", *heads])
    assert decode(later, LOG, EPOCH) == [Reached("general", 4), Reached("other", 9, True)]


def test_wire_payload_of_the_version_before_tells_how_far_channels_have_come() -> None:
    assert decode_heads('[["a",1],5,["b",2]]') == [Reached("a", 1), Reached("b", 2)]
    with pytest.raises(NotForThisLog):
        decode('[["a",1]]', LOG, EPOCH)


def earlier_decode_hints(payload: str) -> list[tuple[str, int]]:
    """How the version before reads a payload."""
    found = []
    for hint in orjson.loads(payload):
        match hint:
            case [str(channel_id), int(sequence)]:
                found.append((channel_id, sequence))
    return found


def test_wire_payload_is_hints_to_the_version_before() -> None:
    (payload,) = encode([message(1), message(2), Reached("long", 7)], LOG)
    assert earlier_decode_hints(payload.decode()) == [("general", 1), ("general", 2), ("long", 7)]
