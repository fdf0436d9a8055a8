"""JSON by orjson, and by the standard library where orjson refuses valid JSON.

orjson refuses lone surrogate escapes and numbers beyond a double. A frame with one of them is still well formed: only
the value of an argument is wrong, and the input rules say which (design 2.4). So the standard library decodes such
text once more.
"""

import json
from typing import Any, NoReturn

import orjson

NESTING_MAX = 1024
"""How deep objects and lists may be nested at most. It is orjson's own limit, and holds for the second decoder too."""


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
        # Text that gets here rarely has so many brackets, and counting them needs no recursion.
        if _brackets(text) > NESTING_MAX:
            raise
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except RecursionError:
            raise ValueError("nested too deeply") from None
    # A text with few brackets cannot be deep. If it has many, the levels of its value are counted.
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
    """`value` as JSON that can be sent: lone surrogates are written as escapes.

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
