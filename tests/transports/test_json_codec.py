"""JSON both ways: what orjson refuses although it is valid, and what must stay refused."""

import json
import math
from typing import Any

import pytest

from transports.wire.json_codec import CONTAINERS_MAX, WRITTEN_NESTING_MAX, decode_json, encode_json


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize("text", ['{"a":"\\ud800"}', b'{"a":"\\ud800"}', '{"a":"\\uDC00\\ud800"}'])
def test_lone_surrogate_is_decoded_and_leaves_as_escape(text: str | bytes) -> None:
    value = decode_json(text)
    assert value == json.loads(text)
    assert encode_json(value).isascii()
    assert json.loads(encode_json(value)) == value


def test_number_beyond_a_double_is_decoded() -> None:
    assert decode_json("1e999") == math.inf


@pytest.mark.parametrize(
    "text",
    [
        "",
        "NaN",
        "-Infinity",
        '{"a":NaN,"b":"\\ud800"}',
        "[" * 10_000 + "]" * 10_000,
        '["\\ud800",' + "[" * 10_000 + "]" * 10_001,
        "[1,]",
        '"\t"',
        "01",
        b"\xff",
        b'"\xed\xa0\x80"',
        "\ufeff{}",
    ],
)
def test_text_that_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (whichever decoder refuses it)
        decode_json(text)


IN_STRINGS = [
    '"' + "[{" * CONTAINERS_MAX + '"',
    r'"\\"' + ',"' + "[" * CONTAINERS_MAX + '"',
    r'"\"' + "[" * CONTAINERS_MAX + '"',
    r'"\\\"' + "[" * CONTAINERS_MAX + '"',
    ",".join(['"["'] * CONTAINERS_MAX + ['""', '"{"']),
    '"é' + "[" * CONTAINERS_MAX + '"',
]


@pytest.mark.parametrize("strings", IN_STRINGS)
def test_lists_and_objects_are_counted_and_brackets_in_strings_are_not(strings: str) -> None:
    for containers in ("[]", "{}"):
        fits = f"[{strings},{','.join([containers] * (CONTAINERS_MAX - 1))}]"
        over = fits[:-1] + ",[]]"
        for form in (str, str.encode):
            assert decode_json(form(fits)) == json.loads(fits)
            with pytest.raises(ValueError, match="lists and objects"):
                decode_json(form(over))
            with pytest.raises(ValueError, match="lists and objects"):
                decode_json(form(over[:-1]))  # Not even JSON, and found out before it is read.


@pytest.mark.parametrize("levels", [10, 254, 255, WRITTEN_NESTING_MAX])
def test_deep_value_is_encoded(levels: int) -> None:
    assert json.loads(encode_json(nested(levels))) == nested(levels)


@pytest.mark.parametrize("levels", [WRITTEN_NESTING_MAX + 1, 50_000])
def test_value_too_deep_to_encode_is_refused(levels: int) -> None:
    with pytest.raises(ValueError, match="deeply"):
        encode_json(nested(levels))


def test_integer_of_any_size_is_encoded() -> None:
    assert encode_json({"a": 2**70}) == f'{{"a":{2**70}}}'
