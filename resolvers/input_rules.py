"""What an argument may be (design 2.4). Each rule returns the value to store or raises `BadUserInput`.

Values may come straight from JSON, so the rules check their types too. A character is a Unicode code point.
"""

from collections.abc import Iterable

from errors import BadUserInput
from messages import (
    AUTHOR_CHARACTERS_MAX,
    CHANNEL_ID_CHARACTERS_MAX,
    LANE_CHARACTERS_MAX,
    NOT_IN_CHANNEL_ID,
    PROVIDER_CHARACTERS_MAX,
    TOKEN_COUNT_MAX,
    Draft,
    MessageFilter,
)

IDEMPOTENCY_KEY_CHARACTERS_MAX = 128
REVISION_MAX = 2**31 - 1
FILTER_VALUES_MAX = 100


def well_formed(argument: str, value: object) -> str:
    """A string that can be stored: Unicode without lone surrogates (a JSON escape may carry one) and without NUL."""
    if not isinstance(value, str):
        raise BadUserInput(argument, "must be a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise BadUserInput(argument, "must not contain a lone surrogate") from None
    if "\0" in value:
        raise BadUserInput(argument, "must not contain a NUL character")
    return value


def _bounded(argument: str, value: object, characters_max: int) -> str:
    text = well_formed(argument, value)
    if not text:
        raise BadUserInput(argument, "must not be empty")
    if len(text) > characters_max:
        raise BadUserInput(argument, f"must be at most {characters_max} characters long")
    return text


def channel_id(value: object, argument: str = "channelId") -> str:
    """1 to 128 characters, no white space, no `/`, no control characters."""
    text = _bounded(argument, value, CHANNEL_ID_CHARACTERS_MAX)
    if NOT_IN_CHANNEL_ID.search(text):
        raise BadUserInput(argument, "must not contain white space, '/' or control characters")
    return text


def author(value: object) -> str:
    """1 to 128 characters."""
    return _bounded("author", value, AUTHOR_CHARACTERS_MAX)


def content(value: object, bytes_max: int, argument: str = "content") -> str:
    """1 to `bytes_max` bytes of UTF-8."""
    text = well_formed(argument, value)
    if not text:
        raise BadUserInput(argument, "must not be empty")
    # A code point takes at most four bytes, so most contents need no second encoding.
    if len(text) * 4 > bytes_max and len(text.encode()) > bytes_max:
        raise BadUserInput(argument, f"must be at most {bytes_max} bytes of UTF-8 long")
    return text


def _label(argument: str, value: object, characters_max: int) -> str | None:
    return None if value is None or value == "" else _bounded(argument, value, characters_max)


def lane(value: object) -> str | None:
    """Up to 64 characters; the empty string is None."""
    return _label("lane", value, LANE_CHARACTERS_MAX)


def provider(value: object) -> str | None:
    """Up to 64 characters; the empty string is None."""
    return _label("provider", value, PROVIDER_CHARACTERS_MAX)


def token_count(value: object) -> int | None:
    """0 to 2,147,483,647, or None."""
    if value is None:
        return None
    # bool is an int in Python; a JSON true is no count.
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadUserInput("tokenCount", "must be an integer")
    if not 0 <= value <= TOKEN_COUNT_MAX:
        raise BadUserInput("tokenCount", f"must be between 0 and {TOKEN_COUNT_MAX}")
    return value


def revision(value: object) -> int:
    """0 to 2,147,483,647."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadUserInput("revision", "must be an integer")
    if not 0 <= value <= REVISION_MAX:
        raise BadUserInput("revision", f"must be between 0 and {REVISION_MAX}")
    return value


def flag(argument: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise BadUserInput(argument, "must be true or false")
    return value


def idempotency_key(value: object) -> str | None:
    """1 to 128 characters, or None."""
    return None if value is None else _bounded("idempotencyKey", value, IDEMPOTENCY_KEY_CHARACTERS_MAX)


def draft(
    *,
    channel: object,
    writer: object,
    text: object,
    text_bytes_max: int,
    lane_name: object = None,
    provider_name: object = None,
    tokens: object = None,
    key: object = None,
    sender: str | None = None,
    complete: object = None,
) -> Draft:
    """A post that has passed every rule; the first broken one is raised."""
    return Draft(
        channel_id(channel),
        author(writer),
        content(text, text_bytes_max),
        lane(lane_name),
        provider(provider_name),
        token_count(tokens),
        idempotency_key(key),
        sender,
        complete is None or flag("complete", complete),
    )


def _wanted(name: str, values: Iterable[object] | None, characters_max: int) -> frozenset[str] | None:
    if values is None:
        return None
    listed = list(values)
    if len(listed) > FILTER_VALUES_MAX:
        raise BadUserInput("filter", f"may name at most {FILTER_VALUES_MAX} {name}")
    texts = (well_formed("filter", value) for value in listed)
    # A value that is longer than what can be stored matches nothing: it need not be kept for a subscription's life.
    return frozenset(text for text in texts if len(text) <= characters_max)


def message_filter(
    authors: Iterable[object] | None = None,
    lanes: Iterable[object] | None = None,
    providers: Iterable[object] | None = None,
) -> MessageFilter | None:
    """A filter of at most 100 values a list; None when nothing constrains. An empty list matches nothing."""
    if authors is None and lanes is None and providers is None:
        return None
    return MessageFilter(
        _wanted("authors", authors, AUTHOR_CHARACTERS_MAX),
        _wanted("lanes", lanes, LANE_CHARACTERS_MAX),
        _wanted("providers", providers, PROVIDER_CHARACTERS_MAX),
    )
