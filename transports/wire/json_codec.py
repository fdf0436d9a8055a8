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
WRITTEN_NESTING_MAX = 900
"""How deep what is written may be nested at most. The standard library's encoder has a limit too, but that depends on
the version of Python: 3.11 refuses a little less than 1,000 levels, 3.13 writes more than `NESTING_MAX`."""
CONTAINERS_MAX = 50_000
"""How many lists and objects a text may have at most: five times as many as an operation's variables may have values.
Each takes 0.25 µs and 90 bytes, so 1 MiB of brackets would take 140 ms and 46 MiB."""
_UNLIKE_BRACKETS = bytes(set(range(256)) - set(b'"[{'))


class TooManyContainers(ValueError):
    """Raised when a JSON text has more than `CONTAINERS_MAX` lists and objects."""

    def __init__(self) -> None:
        super().__init__(f"must have at most {CONTAINERS_MAX} lists and objects")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def decode_json(text: str | bytes, nesting_max: int = NESTING_MAX) -> Any:
    """The value of a JSON text. Strings in it may hold lone surrogates, numbers may be infinite.

    Raises:
        ValueError: it is not JSON (NaN and Infinity are not), not UTF-8, nested deeper than `nesting_max`, or has more
            than `CONTAINERS_MAX` lists and objects.
    """
    check_containers(text)
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


def check_containers(text: str | bytes) -> None:
    """Counts the lists and objects of a JSON text before anything is made of them.

    Raises:
        TooManyContainers: there are more than `CONTAINERS_MAX`.
    """
    if len(text) > CONTAINERS_MAX and _brackets(text) > CONTAINERS_MAX and _containers(text) > CONTAINERS_MAX:
        raise TooManyContainers


def separators(text: str | bytes) -> int:
    """The commas and opening brackets of a JSON text, in strings too: it has at most one value more."""
    commas = text.count(",") if isinstance(text, str) else text.count(b",")
    return commas + _brackets(text)


def _brackets(text: str | bytes) -> int:
    if isinstance(text, str):
        return text.count("[") + text.count("{")
    return text.count(b"[") + text.count(b"{")


def _containers(text: str | bytes) -> int:
    """Opening brackets outside strings; where a text is no JSON, at least those before the place where it is none."""
    data = text.encode(errors="replace") if isinstance(text, str) else text
    # Without escaped quotes, each quote begins or ends a string. Two next to each other may go: what is outside stays
    # outside.
    unescaped = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    pieces = unescaped.translate(None, _UNLIKE_BRACKETS).replace(b'""', b"").split(b'"')
    return sum(map(len, pieces[::2]))


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
        ValueError: it is nested deeper than `WRITTEN_NESTING_MAX`.
    """
    try:
        return orjson.dumps(value).decode()
    except TypeError:
        # orjson writes neither lone surrogates nor more than 254 levels.
        if _nesting(value) > WRITTEN_NESTING_MAX:
            raise ValueError("nested too deeply") from None
        try:
            return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        except RecursionError:  # The call itself was deep.
            raise ValueError("nested too deeply") from None
