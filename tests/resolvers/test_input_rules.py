"""Every rule of design 2.4, at its edges."""

from collections.abc import Callable
from typing import Any

import pytest

from errors import BadUserInput
from resolvers import input_rules as rules


def content(value: object) -> str:
    return rules.content(value, 65_536)


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (rules.channel_id, "a"),
        (rules.channel_id, "c" * 128),
        (rules.channel_id, "Grüße:#1-ünï"),
        (rules.channel_id, "🦝" * 128),
        (rules.author, "a b\n"),
        (rules.author, "x" * 128),
        (content, " "),
        (content, "x" * 65_536),
        (content, "é" * 32_768),
        (content, "a\r\n\t\u2028\ufeffb\x01"),
        (rules.lane, "l" * 64),
        (rules.provider, "p" * 64),
        (rules.token_count, 0),
        (rules.token_count, 2**31 - 1),
        (rules.idempotency_key, "k" * 128),
    ],
)
def test_value_at_its_limit_is_kept_as_it_is(rule: Callable[[object], Any], value: object) -> None:
    assert rule(value) == value


@pytest.mark.parametrize(
    ("rule", "value", "argument"),
    [
        (rules.channel_id, "", "channelId"),
        (rules.channel_id, "c" * 129, "channelId"),
        (rules.channel_id, "a b", "channelId"),
        (rules.channel_id, "a\u00a0b", "channelId"),
        (rules.channel_id, "a\u2028b", "channelId"),
        (rules.channel_id, "a/b", "channelId"),
        (rules.channel_id, "a\x7fb", "channelId"),
        (rules.channel_id, "a\x85b", "channelId"),
        (rules.channel_id, "a\0b", "channelId"),
        (rules.channel_id, "a\ud800b", "channelId"),
        (rules.channel_id, 7, "channelId"),
        (rules.channel_id, None, "channelId"),
        (rules.author, "", "author"),
        (rules.author, "x" * 129, "author"),
        (rules.author, "a\0", "author"),
        (rules.author, "\udfff", "author"),
        (content, "", "content"),
        (content, "x" * 65_537, "content"),
        (content, "é" * 32_768 + "x", "content"),
        (content, "a\0b", "content"),
        (content, "a\ud83d", "content"),
        (content, ["a"], "content"),
        (rules.lane, "l" * 65, "lane"),
        (rules.lane, "\0", "lane"),
        (rules.provider, "p" * 65, "provider"),
        (rules.provider, 1, "provider"),
        (rules.token_count, -1, "tokenCount"),
        (rules.token_count, 2**31, "tokenCount"),
        (rules.token_count, True, "tokenCount"),
        (rules.token_count, 1.5, "tokenCount"),
        (rules.token_count, "1", "tokenCount"),
        (rules.idempotency_key, "", "idempotencyKey"),
        (rules.idempotency_key, "k" * 129, "idempotencyKey"),
    ],
)
def test_value_that_breaks_a_rule_is_refused_by_argument(
    rule: Callable[[object], Any], value: object, argument: str
) -> None:
    with pytest.raises(BadUserInput) as refusal:
        rule(value)
    assert refusal.value.extensions == {"code": "BAD_USER_INPUT", "argument": argument}
    str(refusal.value).encode()


@pytest.mark.parametrize("rule", [rules.lane, rules.provider])
def test_label_that_is_empty_or_null_is_none(rule: Callable[[object], str | None]) -> None:
    assert rule("") is None
    assert rule(None) is None


def test_filter_without_any_list_is_no_filter() -> None:
    assert rules.message_filter() is None


def test_filter_lists_become_sets_whose_order_does_not_matter() -> None:
    assert rules.message_filter(["a", "b"], None, []) == rules.message_filter(["b", "a", "a"], None, [])


def test_filter_with_over_100_values_is_refused() -> None:
    rules.message_filter(authors=["a"] * 100)
    with pytest.raises(BadUserInput, match="at most 100 lanes"):
        rules.message_filter(lanes=["a"] * 101)


@pytest.mark.parametrize("value", ["\ud800", "\0", 3, None])
def test_filter_with_a_value_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(BadUserInput) as refusal:
        rules.message_filter(providers=[value])
    assert refusal.value.argument == "filter"


def test_filter_value_that_nothing_can_equal_is_not_kept() -> None:
    wanted = rules.message_filter(authors=["x" * 100_000, "a"])
    assert wanted is not None
    assert wanted.authors == {"a"}
