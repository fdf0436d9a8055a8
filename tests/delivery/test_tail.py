from datetime import UTC, datetime

import pytest

from delivery.budget import CacheBudget
from delivery.tail import Tail, size_bytes
from messages import MESSAGE_OVERHEAD_BYTES, Message

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def messages(first: int, last: int, content: str = "x") -> list[Message]:
    return [Message("c", n, "a", content, None, None, None, NOW, "e") for n in range(first, last + 1)]


def tail_of(max_bytes: int) -> Tail:
    budget = CacheBudget(max_bytes, max_bytes)
    tail = Tail(budget)
    budget.add(tail)
    return tail


def sequences(page: list[Message] | None) -> list[int] | None:
    return None if page is None else [message.sequence for message in page]


def test_tail_position_inside_returns_what_follows() -> None:
    tail = tail_of(1_000_000)
    tail.extend(messages(5, 9))
    assert sequences(tail.after(4, limit=10, max_bytes=10**6)) == [5, 6, 7, 8, 9]
    assert sequences(tail.after(6, limit=2, max_bytes=10**6)) == [7, 8]
    assert sequences(tail.after(9, limit=2, max_bytes=10**6)) == []


def test_tail_position_before_it_or_empty_tail_returns_none() -> None:
    tail = tail_of(1_000_000)
    assert tail.after(0, limit=1, max_bytes=1) is None
    tail.extend(messages(5, 9))
    assert tail.after(3, limit=10, max_bytes=10**6) is None


def test_tail_over_its_bytes_forgets_the_oldest_and_stays_contiguous() -> None:
    size = size_bytes(messages(1, 1)[0])
    tail = tail_of(10 * size)
    for first in range(1, 1000, 7):
        tail.extend(messages(first, first + 6))
        last = first + 6
        held = tail.after(max(0, last - 10), limit=100, max_bytes=10**6)
        assert sequences(held) == list(range(max(1, last - 9), last + 1))
        if last > 11:
            assert tail.after(last - 11, limit=1, max_bytes=1) is None
    assert len(tail._entries) == 10


def test_tail_message_larger_than_it_leaves_it_empty() -> None:
    tail = tail_of(100)
    tail.extend(messages(1, 1, "x" * 1000))
    assert tail.after(0, limit=1, max_bytes=10) is None


def test_tail_after_a_gap_starts_anew() -> None:
    tail = tail_of(1_000_000)
    tail.extend(messages(1, 3))
    tail.extend(messages(7, 9))
    assert tail.after(3, limit=10, max_bytes=10**6) is None
    assert sequences(tail.after(6, limit=10, max_bytes=10**6)) == [7, 8, 9]


def test_page_over_max_bytes_is_cut_after_the_message_that_exceeds_it() -> None:
    tail = tail_of(1_000_000)
    tail.extend(messages(1, 9, "x" * 1000))
    assert sequences(tail.after(0, limit=9, max_bytes=1)) == [1]
    assert sequences(tail.after(0, limit=9, max_bytes=2 * (1000 + MESSAGE_OVERHEAD_BYTES))) == [1, 2]


def test_tail_of_long_messages_holds_no_more_than_its_bound() -> None:
    tail = tail_of(1_000_000)
    for number in range(1, 100):
        tail.extend(messages(number, number, "x" * 200_000))
        assert sum(map(size_bytes, tail._entries)) <= 1_000_000
    assert tail.after(98, limit=10, max_bytes=10**6) is not None


def test_tails_of_many_channels_stay_within_the_bound_of_them_all_though_most_are_idle() -> None:
    budget = CacheBudget(100_000, 10_000)
    tails = []
    for _ in range(50):
        tail = Tail(budget)
        budget.add(tail)
        tails.append(tail)
        tail.extend(messages(1, 30))
        assert budget.kept_bytes == sum(each._bytes for each in tails) <= 100_000
        assert len(tail.after(30 - budget.share_bytes() // 600, limit=100, max_bytes=10**6) or ()) >= 3
    for tail in tails:
        budget.remove(tail)
        budget.remove(tail)
        tail.extend(messages(31, 40))
    assert (len(budget), budget.kept_bytes) == (0, 0)


def test_tails_at_their_bound_are_looked_at_together_only_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    trims = 0

    def counted(tail: Tail, share_bytes: int) -> None:
        nonlocal trims
        trims += 1
        trim(tail, share_bytes)

    trim = Tail.trim
    monkeypatch.setattr(Tail, "trim", counted)
    budget = CacheBudget(100_000, 10_000)
    for _ in range(1_000):
        tail = Tail(budget)
        budget.add(tail)
        tail.extend(messages(1, 30))
    assert trims < 20_000  # Each newcomer looking at all would make half a million.
