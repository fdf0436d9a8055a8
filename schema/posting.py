"""Runs mutations that consist of one `postMessage` without graphql-core's executor. Nearly all mutations are like this.

Variables that are strings are used as arguments directly; graphql-core coerces the others. The post goes through
`resolvers.post_message` as always, and the result is read by a selection that is made once for each document. Anything
unusual, for example a wrong variable, is left to the executor. This can only happen before the post, never after it.
"""

from typing import Any, NamedTuple

from cachetools import LRUCache
from graphql import (
    FieldNode,
    GraphQLError,
    GraphQLSchema,
    NamedTypeNode,
    NonNullTypeNode,
    OperationDefinitionNode,
    VariableNode,
    located_error,
)
from graphql.execution.values import VariableValues, get_argument_values, get_variable_values

from errors import InternalError
from resolvers.post_message import post_message
from schema.context import Context
from schema.documents import Prepared
from schema.errors import format_graphql_error
from schema.rendering import build_executor
from schema.selection import MessageSelection, message_selection

PLANS_MAX = 256
"""Documents whose plans are kept."""
_STRINGS = ("String", "ID")


class _StringVariable(NamedTuple):
    """A variable whose value can be used as an argument without coercion, if it is a string; or, where that is allowed,
    null or left out."""

    name: str
    argument: str
    required: bool


class _Plan(NamedTuple):
    """What is known of a document without its variables. `strings` are all its variables, or None when some of them
    are not strings."""

    root: FieldNode
    selection: MessageSelection
    strings: tuple[_StringVariable, ...] | None


class Posting:
    """Runs mutations of that form."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        root = schema.mutation_type
        assert root is not None
        self._root = root
        self._field = root.fields["postMessage"]
        self._plans: LRUCache[tuple[str, str | None], _Plan | None] = LRUCache(PLANS_MAX)

    async def run(
        self, prepared: Prepared, variables: dict[str, Any] | None, context: Context
    ) -> dict[str, Any] | None:
        """The formatted result. None when the executor has to run the operation; then nothing was done yet."""
        plan = self._plan(prepared, variables)
        if plan is None:
            return None
        arguments = self._arguments(plan, prepared, variables or {})
        if arguments is None:
            return None
        selection = plan.selection
        try:
            message = await post_message(
                context.chat,
                context.viewer,
                channel_id=arguments["channelId"],
                author=arguments["author"],
                content=arguments["content"],
                lane=arguments.get("lane"),
                provider=arguments.get("provider"),
                token_count=arguments.get("tokenCount"),
                idempotency_key=arguments.get("idempotencyKey"),
                complete=arguments.get("complete"),
                address=context.address,
            )
            values = selection.read(message)
            if values is None:
                raise InternalError
        except Exception as error:
            located = located_error(error, [plan.root], [selection.root_name])
            return {"errors": [format_graphql_error(located, prepared.arguments)], "data": None}
        return {"data": {selection.root_name: values}}

    def _plan(self, prepared: Prepared, variables: dict[str, Any] | None) -> _Plan | None:
        if prepared.event_variables:
            return None  # The selection itself depends on variables.
        key = (prepared.text, prepared.operation_name)
        try:
            return self._plans[key]
        except KeyError:
            pass
        executor = build_executor(self._schema, prepared, variables)
        if isinstance(executor, list):
            return None
        found = message_selection(executor, self._root)
        plan = None
        if found is not None and self._root.fields[found[0].name.value] is self._field:
            root, selection = found
            plan = _Plan(root, selection, _string_variables(root, prepared.operation))
        self._plans[key] = plan
        return plan

    def _arguments(self, plan: _Plan, prepared: Prepared, variables: dict[str, Any]) -> dict[str, Any] | None:
        if plan.strings is not None:
            arguments = {}
            for name, argument, required in plan.strings:
                value = arguments[argument] = variables.get(name)
                if type(value) is not str and (required or value is not None):
                    break
            else:
                return arguments
        values = get_variable_values(self._schema, prepared.operation.variable_definitions or (), variables)
        if not isinstance(values, VariableValues):
            return None
        try:
            return get_argument_values(self._field, plan.root, values)
        except GraphQLError:
            return None


def _string_variables(root: FieldNode, operation: OperationDefinitionNode) -> tuple[_StringVariable, ...] | None:
    """The field's arguments, if each is a variable of a string type without a default: then they need no coercion, for
    which graphql-core takes a quarter of all CPU time of a post."""
    definitions = {each.variable.name.value: each for each in operation.variable_definitions or ()}
    found = []
    for argument in root.arguments or ():
        if not isinstance(argument.value, VariableNode):
            return None
        definition = definitions[argument.value.name.value]
        required = isinstance(definition.type, NonNullTypeNode)
        of_type = definition.type.type if isinstance(definition.type, NonNullTypeNode) else definition.type
        if definition.default_value or not isinstance(of_type, NamedTypeNode) or of_type.name.value not in _STRINGS:
            return None
        found.append(_StringVariable(argument.value.name.value, argument.name.value, required))
    return tuple(found)
