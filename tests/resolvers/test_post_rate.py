"""Token buckets: what passes at the edge, what one past it is told, and how much memory it takes."""

import pytest

from errors import IdempotencyConflict, RateLimited
from messages import ANYONE
from resolvers.chat import Chat
from resolvers.post_message import post_message
from resolvers.post_rate import Buckets, PostRate
from tests.fakes import memory_chat


def test_rate_burst_passes_and_one_more_is_told_when() -> None:
    rate = PostRate(5)
    for _ in range(5):
        rate.charge("ann", "10.0.0.1", now=100.0)
    with pytest.raises(RateLimited) as refused:
        rate.charge("ann", "10.0.0.2", now=100.0)
    assert refused.value.extensions == {"code": "RATE_LIMITED", "retryAfterMs": 200}
    assert "author posts more than 5 messages a second" in str(refused.value)
    with pytest.raises(RateLimited, match="address posts more than 5"):
        rate.charge("bob", "10.0.0.1", now=100.0)
    rate.charge("bob", "10.0.0.2", now=100.0)
    with pytest.raises(RateLimited):
        rate.charge("ann", "10.0.0.2", now=100.19)
    rate.charge("ann", "10.0.0.2", now=100.2)


def test_rate_in_the_long_run_is_what_was_set() -> None:
    rate = PostRate(50)
    passed = 0
    for step in range(10_000):
        try:
            rate.charge("ann", None, now=step / 1000)
        except RateLimited:
            continue
        passed += 1
    assert passed == 50 + 499


def test_rate_below_one_a_second_lets_one_pass() -> None:
    rate = PostRate(0.5)
    rate.charge("ann", None, now=0.0)
    with pytest.raises(RateLimited) as refused:
        rate.charge("ann", None, now=0.5)
    assert refused.value.retry_after_ms == 1500
    rate.charge("ann", None, now=2.0)


def test_rate_refused_post_costs_the_other_bucket_nothing() -> None:
    rate = PostRate(1)
    rate.charge("ann", "10.0.0.1", now=0.0)
    with pytest.raises(RateLimited):
        rate.charge("bob", "10.0.0.1", now=0.0)
    rate.charge("bob", "10.0.0.2", now=0.0)


def test_buckets_keep_only_who_posted_lately() -> None:
    buckets = Buckets(1, 1)
    for number in range(10_000):
        buckets.take(str(number), now=number / 10)
    assert len(buckets) <= 11


def test_buckets_never_keep_more_than_their_bound() -> None:
    buckets = Buckets(1, 1, subjects_max=100)
    for number in range(1000):
        buckets.take(str(number), now=0.0)
    assert len(buckets) == 100
    assert buckets.wait_seconds("999", now=0.0) == 1.0
    assert buckets.wait_seconds("0", now=0.0) == 0.0


async def test_post_over_its_rate_is_refused_and_stores_nothing() -> None:
    async with memory_chat(post_rate=PostRate(1)) as chat:
        await post_message(chat, ANYONE, channel_id="c", author="ann", content="1", address="10.0.0.1")
        with pytest.raises(RateLimited):
            await post_message(chat, ANYONE, channel_id="c", author="ann", content="2", address="10.0.0.2")
        with pytest.raises(RateLimited):
            await post_message(chat, ANYONE, channel_id="c", author="bob", content="2", address="10.0.0.1")
        assert await chat.log.last_sequence("c") == 1


async def test_post_repeated_is_not_charged_and_answered_though_the_bucket_is_empty() -> None:
    async with memory_chat(post_rate=PostRate(2)) as chat:
        keyed = {"channel_id": "c", "author": "ann", "content": "1", "idempotency_key": "k", "address": "10.0.0.1"}
        first = await post_message(chat, ANYONE, **keyed)
        assert await post_message(chat, ANYONE, **keyed) == first
        await post_message(chat, ANYONE, channel_id="c", author="ann", content="2", address="10.0.0.1")
        await _refused(chat, "3")
        assert await post_message(chat, ANYONE, **keyed) == first
        with pytest.raises(IdempotencyConflict):
            await post_message(chat, ANYONE, **{**keyed, "content": "other"})
        await _refused(chat, "3", idempotency_key="new")


async def _refused(chat: Chat, content: str, **fields: str) -> None:
    with pytest.raises(RateLimited):
        await post_message(chat, ANYONE, channel_id="c", author="ann", content=content, address="10.0.0.1", **fields)
