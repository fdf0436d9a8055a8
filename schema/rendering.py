"""What a subscription makes of a message. It is executed and encoded once for all who would get the same bytes.

A result depends on the message, the document, the operation's name, and the coerced variables that are used below the
root field. It does not depend on who asks: the execution gets no context, and a test checks this for every field of
`Message`.
"""

import json
from collections.abc import Awaitable, Hashable
from typing import Any
from weakref import WeakValueDictionary

import orjson
from graphql import ExecutionResult, GraphQLError, GraphQLSchema
from graphql.execution import Executor, execute_subscription_event
from graphql.execution.values import VariableValues
from strawberry.execution import optimized_is_awaitable

from messages import Message
from schema.documents import Prepared
from schema.errors import format_broken_field, format_graphql_errors, logger
from schema.selection import MessageSelection, message_selection

EVENTS_PER_EXECUTOR = 256
"""graphql-core 3.3.1 and 3.3.2 keep about 2 KB for each event in the executor that events share (the key of its field
cache is the id of a list that is new each time). So the executor is built again after so many events, in 15 to 50
µs."""

_ABSENT = object()


class SharedRender:
    """The `render` of a cohort: `{"data":{…}}` as JSON for each message. Never raises.

    A subscription keeps its render for as long as it lives, so a render keeps little: only the selection, and neither
    the document nor the variables that the client sent, which may have a megabyte each.
    """

    __slots__ = ("__weakref__", "_executed", "_selection")

    def __init__(self, schema: GraphQLSchema, prepared: Prepared, variables: dict[str, Any] | None) -> None:
        found = message_selection(_executor(schema, prepared, variables), schema.subscription_type)
        self._selection: MessageSelection | None = None
        self._executed: _Executed | None = None
        if found is None:
            self._executed = _Executed(schema, prepared, variables)
        else:
            _, self._selection = found

    def __call__(self, message: Message) -> bytes | Awaitable[bytes]:
        selection = self._selection
        if selection is None:
            assert self._executed is not None
            return self._executed.render(message)
        values = selection.read(message)
        if values is not None:
            return orjson.dumps({"data": {selection.root_name: values}})
        return _broken(selection, message)


class _Executed:
    """An operation that graphql-core runs for each message, because its selection is not a plain list of fields."""

    __slots__ = ("_events", "_executor", "_prepared", "_schema", "_variables")

    def __init__(self, schema: GraphQLSchema, prepared: Prepared, variables: dict[str, Any] | None) -> None:
        declared = [each.variable.name.value for each in prepared.operation.variable_definitions or ()]
        self._schema = schema
        self._prepared = prepared
        self._variables = {name: variables[name] for name in declared if name in variables} if variables else None
        self._executor: Executor[Any] | None = None
        self._events = 0

    def render(self, message: Message) -> bytes | Awaitable[bytes]:
        if self._executor is None or self._events >= EVENTS_PER_EXECUTOR:
            self._events = 0
            self._executor = _executor(self._schema, self._prepared, self._variables)
        self._events += 1
        result = execute_subscription_event(self._executor.build_per_event_executor(message))
        if isinstance(result, ExecutionResult):
            return encode(result)
        return _encode_later(result)


def _executor(schema: GraphQLSchema, prepared: Prepared, variables: dict[str, Any] | None) -> Executor[Any]:
    executor = build_executor(schema, prepared, variables)
    assert not isinstance(executor, list)  # The variables were coerced before, when the client subscribed.
    return executor


def _broken(selection: MessageSelection, message: Message) -> bytes:
    values, broken = selection.read_broken(message)
    errors = [
        format_broken_field(each.cause, each.leaf.places, [selection.root_name, each.leaf.name]) for each in broken
    ]
    data = None if values is None else {selection.root_name: values}
    return orjson.dumps({"data": data, "errors": errors})


def build_executor(
    schema: GraphQLSchema, prepared: Prepared, variables: dict[str, Any] | None
) -> Executor[Any] | list[GraphQLError]:
    """graphql-core's executor for a prepared operation; or the errors in the variables."""
    return Executor.build(
        schema,
        prepared.document,
        raw_variable_values=variables,
        operation_name=prepared.operation_name,
        is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
    )


def encode(result: ExecutionResult) -> bytes:
    """The result for an event as JSON. Its errors have codes, and unexpected ones are masked."""
    formatted: dict[str, Any] = {"data": result.data}
    if result.errors:
        formatted["errors"] = format_graphql_errors(result.errors)
    try:
        return orjson.dumps(formatted)
    except TypeError:
        logger.warning("A result that orjson refuses was encoded by the standard library")
        return json.dumps(formatted).encode()


async def _encode_later(result: Awaitable[ExecutionResult]) -> bytes:
    return encode(await result)


class SharedRenders:
    """The renders in use, by (document text, operation name, variables): each serves all subscribers of all
    channels."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._in_use: WeakValueDictionary[Hashable, SharedRender] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._in_use)

    def find(self, prepared: Prepared, variables: VariableValues, given: dict[str, Any] | None) -> SharedRender:
        key = cohort_key(prepared, variables)
        render = self._in_use.get(key)
        if render is None:
            render = self._in_use[key] = SharedRender(self._schema, prepared, given)
        return render


def cohort_key(prepared: Prepared, variables: VariableValues) -> Hashable:
    """Equal for operations whose results are the same bytes for every message.

    Variables are compared after coercion, so it makes no difference whether a default value is sent or left out. Those
    that are only used in the root field's arguments do not count: they choose messages, and do not change the results.
    """
    used = tuple((name, _frozen(variables.coerced.get(name, _ABSENT))) for name in prepared.event_variables)
    return prepared.digest, used


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        return tuple(sorted((name, _frozen(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    frozen: Hashable = value
    return frozen
