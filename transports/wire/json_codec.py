"""JSON by orjson, with a way around for what orjson refuses although it is valid JSON.

orjson refuses lone surrogate escapes and numbers beyond a double. A frame that carries one is well formed all the
same; what is wrong with it is an argument's value, which the input rules name (design 2.4). So such text is decoded
once more by the standard library.
"""

import json
from typing import Any, NoReturn

import orjson

NESTING_MAX = 1024
"""Containers inside containers that a text may have at most: orjson's own limit, kept by the second decoder too."""


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def decode_json(text: str | bytes, nesting_max: int = NESTING_MAX) -> Any:
    """The value of a JSON text. Strings in it may hold lone surrogates, numbers may be infinite.

    Raises:
        ValueError: it is not JSON (NaN and Infinity are not), not UTF-8, or nested deeper than `nesting_max`.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        if isinstance(text, bytes):
            text = text.decode()
        # More brackets than levels are rare in the text that gets here, and counting them needs no recursion.
        if _brackets(text) > NESTING_MAX:
            raise
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except RecursionError:
            raise ValueError("nested too deeply") from None
    # A text with few brackets cannot be deep; of one with many each level is looked at.
    if nesting_max < NESTING_MAX and _brackets(text) > nesting_max and _nesting(value) > nesting_max:
        raise ValueError("nested too deeply")
    return value


def _brackets(text: str | bytes) -> int:
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def _nesting(value: Any) -> int:
    """Levels of containers in a value."""
    levels = 0
    containers = [value] if isinstance(value, dict | list) else []
    while containers:
        levels += 1
        inner = (each.values() if isinstance(each, dict) else each for each in containers)
        containers = [each for values in inner for each in values if isinstance(each, dict | list)]
    return levels


def encode_json(value: Any) -> str:
    """`value` as JSON that can be sent: lone surrogates leave as escapes.

    Raises:
        ValueError: it is nested too deeply to be written.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # orjson writes neither lone surrogates nor more than 254 levels.
        try:
            return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        except RecursionError:
            raise ValueError("nested too deeply") from None
