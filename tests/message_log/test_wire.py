"""What processes tell each other: everything comes back, sizes are bounded, and nothing foreign is believed."""

import json
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from message_log.wire import Entry, NotForThisLog, Reached, decode, decode_heads, encode
from messages import SEQUENCE_MAX, Message

LOG, EPOCH = "0123456789abcdef", "an epoch"
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
SEQUENCES = st.integers(1, SEQUENCE_MAX)
MESSAGES = st.builds(
    Message,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=128),
    SEQUENCES,
    TEXT,
    TEXT,
    st.none() | TEXT,
    st.none() | TEXT,
    st.none() | st.integers(0, 2**31 - 1),
    st.datetimes(datetime(1900, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)),
    st.just(EPOCH),
)
ENTRIES = st.lists(MESSAGES | st.builds(Reached, TEXT, SEQUENCES), max_size=20)


def message(sequence: int = 1, content: str = "hello", channel_id: str = "general") -> Message:
    moment = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(microseconds=sequence)
    return Message(channel_id, sequence, "ann", content, None, "someone", 3, moment, EPOCH)


@given(ENTRIES)
def test_wire_entries_come_back_as_they_were(entries: list[Entry]) -> None:
    payloads = list(encode(entries, LOG))
    assert len(payloads) == bool(entries)
    assert [entry for payload in payloads for entry in decode(payload, LOG, EPOCH)] == entries


@given(ENTRIES, st.integers(1_100, 4_000))
def test_wire_payloads_are_bounded_and_carry_every_entry_in_order(entries: list[Entry], bytes_max: int) -> None:
    payloads = list(encode(entries, LOG, bytes_max=bytes_max))
    assert all(len(payload) <= bytes_max for payload in payloads)
    told = [entry for payload in payloads for entry in decode(payload.decode(), LOG, EPOCH)]
    assert [(e.channel_id, e.sequence) for e in told] == [(e.channel_id, e.sequence) for e in entries]
    for entry, as_told in zip(entries, told, strict=True):
        assert as_told == entry or isinstance(as_told, Reached)


def test_wire_message_that_is_too_long_for_a_payload_goes_without_its_body() -> None:
    entries = [message(1), message(2, "x" * 8_000), message(3)]
    (payload,) = encode(entries, LOG, bytes_max=7_900)
    assert decode(payload, LOG, EPOCH) == [entries[0], Reached("general", 2), entries[2]]


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
        ["2026", "ann", "hello", None, None, None],
        [10**30, "ann", "hello", None, None, None],
        [10**18, "ann", "hello", None, None, None],
        [1, None, "hello", None, None, None],
        [1, "ann", {"a": 1}, None, None, None],
        [1, "ann", "hello", 1, None, None],
        [1, "ann", "hello", None, [], None],
        [1, "ann", "hello", None, None, "3"],
        [1, "ann", "hello", None, None, True],
        [1, "ann", "hello", None, None],
        {},
        "hello",
    ],
)
def test_wire_body_that_is_none_spoils_its_payload(body: object) -> None:
    payload = json.dumps([f"1:{LOG}", ["general", 1], body])
    with pytest.raises(NotForThisLog):
        decode(payload, LOG, EPOCH)


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
    later = orjson.dumps([f"2:{LOG}", ["general", 4], {"content": "in a form to come"}, ["other", 9, "change"]])
    assert decode(later, LOG, EPOCH) == [Reached("general", 4)]


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
