"""The contract's scalars that differ from those of GraphQL or Strawberry."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NewType

import strawberry
from graphql import GraphQLError, GraphQLInt, GraphQLNamedType, GraphQLScalarType
from strawberry.schema.types.base_scalars import DateTimeDefinition
from strawberry.types.scalar import ScalarDefinition

from messages import SEQUENCE_MAX, iso_timestamp

Cursor = NewType("Cursor", str)
_CURSOR = strawberry.scalar(
    name="Cursor",
    description=(
        "A position in a channel. It is an opaque string, and valid only for this channel and this log. Pass it back "
        "as you got it."
    ),
    serialize=str,
    parse_value=lambda value: value,
)


class _WideInt(GraphQLScalarType):
    """The type `Int` of the contract. graphql-core reserves this name for its own type, which this one replaces."""

    reserved_types: Mapping[str, GraphQLNamedType] = {}


def _written_int(value: Any) -> int:
    """An integer without change, up to the largest that a JSON number holds exactly.

    GraphQL's own `Int` refuses more than 32 bits, and the sequences of a busy channel need more within days. Clients
    that were generated from the schema know `Int`, so the type keeps its name. What clients send may have 32 bits.
    """
    if type(value) is int and -SEQUENCE_MAX <= value <= SEQUENCE_MAX:
        return value
    raise GraphQLError(f"Int cannot represent {value!r}")


_INT = _WideInt(
    name="Int",
    description=(
        "A whole number. What clients send may have 32 bits, as the GraphQL specification says. What this server sends "
        "may be as large as 2^53 - 1, which a JSON number holds exactly."
    ),
    coerce_output_value=_written_int,
    coerce_input_value=GraphQLInt.coerce_input_value,
    coerce_input_literal=GraphQLInt.coerce_input_literal,
    value_to_literal=GraphQLInt.value_to_literal,
)

SCALARS: dict[object, ScalarDefinition] = {
    Cursor: _CURSOR,
    int: ScalarDefinition(
        name="Int",
        description=_INT.description,
        specified_by_url=None,
        serialize=_written_int,
        parse_value=GraphQLInt.coerce_input_value,
        parse_literal=None,
        implementation=_INT,
        origin=_INT,
    ),
    datetime: strawberry.scalar(
        name="DateTime",
        description=(
            "A time in ISO 8601, in UTC, with six digits after the second: `2026-11-22T20:15:00.000000+00:00`."
        ),
        serialize=iso_timestamp,
        parse_value=DateTimeDefinition.parse_value,
    ),
}
"""Strawberry's `scalar_map`: which scalar stands for which Python type."""
