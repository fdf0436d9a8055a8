"""The mutation that is one `postMessage`, run without the executor's walk. It is nearly every mutation there is.

Arguments are coerced by graphql-core, the post goes through `resolvers.post_message` as ever, and the result is read by
the selection that was walked once. Whatever is out of the ordinary, a wrong variable say, is left to the executor; so
is everything before the post, never anything after it.
"""

from typing import Any

from cachetools import LRUCache
from graphql import GraphQLError, GraphQLSchema, located_error
from graphql.execution.values import VariableValues, get_argument_values, get_variable_values

from errors import InternalError
from resolvers.post_message import post_message
from schema.context import Context
from schema.documents import Prepared
from schema.errors import format_graphql_error
from schema.rendering import build_executor
from schema.selection import MessageSelection, message_selection

SELECTIONS_MAX = 256
"""Documents whose selections are kept."""


class Posting:
    """Runs mutations of that form."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        root = schema.mutation_type
        assert root is not None
        self._root = root
        self._field = root.fields["postMessage"]
        self._selections: LRUCache[tuple[str, str | None], MessageSelection | None] = LRUCache(SELECTIONS_MAX)

    async def run(
        self, prepared: Prepared, variables: dict[str, Any] | None, context: Context
    ) -> dict[str, Any] | None:
        """The formatted result; None when the executor has to run the operation. Nothing has happened then."""
        selection = self._selection(prepared, variables)
        if selection is None:
            return None
        arguments = self._arguments(selection, prepared, variables)
        if arguments is None:
            return None
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
                address=context.address,
            )
            values = selection.read(message)
            if values is None:
                raise InternalError
        except Exception as error:
            located = located_error(error, [selection.root], [selection.root_name])
            return {"errors": [format_graphql_error(located, prepared.arguments)], "data": None}
        return {"data": {selection.root_name: values}}

    def _selection(self, prepared: Prepared, variables: dict[str, Any] | None) -> MessageSelection | None:
        if prepared.event_variables:
            return None  # The selection itself depends on variables.
        key = (prepared.text, prepared.operation_name)
        try:
            return self._selections[key]
        except KeyError:
            pass
        executor = build_executor(self._schema, prepared, variables)
        if isinstance(executor, list):
            return None
        selection = message_selection(executor, self._root)
        if selection is not None and self._root.fields[selection.root.name.value] is not self._field:
            selection = None
        self._selections[key] = selection
        return selection

    def _arguments(
        self, selection: MessageSelection, prepared: Prepared, variables: dict[str, Any] | None
    ) -> dict[str, Any] | None:
        values = get_variable_values(self._schema, prepared.operation.variable_definitions or (), variables or {})
        if not isinstance(values, VariableValues):
            return None
        try:
            return get_argument_values(self._field, selection.root, values)
        except GraphQLError:
            return None
