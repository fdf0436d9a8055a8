"""What a client's `Accept` header asks for, as far as this server has it (RFC 9110 section 12.5.1)."""

import re
from functools import lru_cache
from typing import Literal, NamedTuple

JSON = "application/json"
GRAPHQL_JSON = "application/graphql-response+json"

Stream = Literal["sse", "multipart"]

_PARTS = re.compile(r'(?:[^,"]|"[^"]*")+')
_CACHED_CHARACTERS_MAX = 512


class Accepted(NamedTuple):
    """`json`: the JSON media type to answer with. `stream`: the first acceptable stream type. None: not acceptable.

    `html` is True for browsers that open a page: HTML is named, JSON is not.
    """

    json: str | None
    stream: Stream | None
    html: bool


def accepted(header: str | None) -> Accepted:
    """Reads an `Accept` header. If it is absent or empty, everything is accepted."""
    if not header or header.isspace():
        return Accepted(JSON, "sse", False)
    return _cached(header) if len(header) <= _CACHED_CHARACTERS_MAX else _read(header)


def content_type(header: bytes) -> tuple[str, str]:
    """The media type of a `Content-Type` header, and its charset (`utf-8` when it has none), in lower case."""
    return _cached_type(header) if len(header) <= _CACHED_CHARACTERS_MAX else _read_type(header)


@lru_cache(maxsize=512)
def _cached_type(header: bytes) -> tuple[str, str]:
    return _read_type(header)


def _read_type(header: bytes) -> tuple[str, str]:
    media_type, parameters = _parameters(header.decode("latin-1"))
    return media_type, parameters.get("charset", "utf-8")


@lru_cache(maxsize=512)
def _cached(header: str) -> Accepted:
    return _read(header)


def _read(header: str) -> Accepted:
    json_types: dict[str, float] = {}
    streams: list[Stream] = []
    wild: list[Stream] = []
    html = False
    for part in _PARTS.findall(header):
        media_range, parameters = _parameters(part)
        weight = _weight(parameters.get("q"))
        match media_range:
            case "application/json" | "application/graphql-response+json":
                json_types[media_range] = weight
            case "application/*" | "*/*":
                json_types.setdefault("*", weight)
        if not weight:
            continue
        match media_range:
            case "text/event-stream":
                streams.append("sse")
            case "multipart/mixed" if _is_subscription(parameters):
                streams.append("multipart")
            case "text/*" | "*/*":
                wild.append("sse")
            case "multipart/*":
                wild.append("multipart")
            case "text/html" | "application/xhtml+xml":
                html = True
    named = JSON in json_types or GRAPHQL_JSON in json_types
    stream = next(iter((*streams, *wild)), None)
    return Accepted(_preferred(json_types), stream, html and not named)


def _preferred(weights: dict[str, float]) -> str | None:
    """The type with the greatest weight; among equals the first. A wildcard means JSON unless JSON itself is named."""
    anything = weights.pop("*", 0.0)
    if anything:
        weights.setdefault(JSON, anything)
    best = max(weights, key=lambda name: weights[name], default=None)
    return best if best is not None and weights[best] > 0 else None


def _is_subscription(parameters: dict[str, str]) -> bool:
    # `multipart/mixed` with a deferSpec asks for incremental delivery, which is another format.
    return (
        parameters["subscriptionspec"].startswith("1")
        if "subscriptionspec" in parameters
        else not any(name.endswith("spec") for name in parameters)
    )


def _weight(value: str | None) -> float:
    if value is None:
        return 1.0
    try:
        weight = float(value)
    except ValueError:
        return 1.0
    return min(weight, 1.0) if weight > 0 else 0.0


def _parameters(value: str) -> tuple[str, dict[str, str]]:
    name, *rest = value.split(";")
    parameters = {}
    for parameter in rest:
        key, _, text = parameter.partition("=")
        parameters[key.strip().lower()] = text.strip().strip('"').lower()
    return name.strip().lower(), parameters
