"""Running operations: prepare once, then execute or subscribe. All transports use this module."""

from collections.abc import Generator
from inspect import isawaitable
from typing import Any

import orjson
from graphql import ExecutionResult, GraphQLError, execute
from graphql.execution.collect_fields import collect_fields
from graphql.execution.values import get_argument_values
from strawberry.execution import optimized_is_awaitable
from strawberry.extensions import SchemaExtension

from delivery.sink import Sink
from delivery.subscriber import Subscriber
from errors import BadUserInput
from resolvers import input_rules
from resolvers.budget import Budget
from resolvers.fair_queue import NOBODY, Client
from resolvers.subscribe import subscribe
from schema.context import Context
from schema.contract import Schema, build_schema
from schema.contract import schema as contract
from schema.documents import Documents, Prepared
from schema.errors import count_errors, format_graphql_error, format_graphql_errors
from schema.persisted_queries import PersistedQueries
from schema.posting import Posting
from schema.proportions import DocumentLimits
from schema.reading import Reading
from schema.rendering import SharedRender, SharedRenders, build_executor
from schema.turns import Turns

__all__ = ["Operations", "Prepared"]

MAX_CONTENTS = 50
"""How many fields of one name a document has at most. If its text has the name more often, the rest is in strings."""


class Operations:
    """The contract, ready to run documents.

    Args:
        schema: the contract. If it has Strawberry extensions, queries and mutations go through Strawberry's own
            pipeline, which takes about twice the time. Subscriptions never do: their executions are shared.
        persisted_queries: documents known by their hash; by default those that clients register, bounded.
        limits: what a document may have at most.
    """

    def __init__(
        self,
        schema: Schema | None = None,
        *,
        persisted_queries: PersistedQueries | None = None,
        limits: DocumentLimits = DocumentLimits(),  # noqa: B008 - it is frozen
    ) -> None:
        schema = schema or contract
        # There is no public way to graphql-core's schema in Strawberry.
        self._graphql_schema = schema._schema
        self._documents = Documents(self._graphql_schema, limits=limits)
        self._turns = Turns()
        self._persisted_queries = PersistedQueries() if persisted_queries is None else persisted_queries
        self._renders = SharedRenders(self._graphql_schema)
        self._posting = Posting(self._graphql_schema)
        self._reading = Reading(self._graphql_schema)
        self._extended = _with_prepared_documents(schema, self._documents) if schema.extensions else None

    def prepare(
        self, query: str | None, operation_name: str | None, extensions: dict[str, Any] | None = None
    ) -> Prepared:
        """The operation to run, parsed and validated. It comes from the cache if its text is known.

        `extensions` is the request's member of that name: `persistedQuery` may replace a query that is left out.

        Raises:
            BadUserInput: there is no query, or the hash is not that of the query.
            Forbidden: only trusted documents are run, and this is not one.
            PersistedQueryNotFound: the hash names no document known here.
            DocumentUnparsable: the query is not GraphQL.
            DocumentInvalid: it does not fit the schema, or does not say which operation to run.
        """
        return self._prepare(self._persisted_queries.resolve(query, extensions), operation_name, extensions)

    async def prepare_in_turn(
        self,
        query: str | None,
        operation_name: str | None,
        extensions: dict[str, Any] | None = None,
        *,
        client: Client = NOBODY,
    ) -> Prepared:
        """`prepare` for clients: at once if the text is known, else in turn and with breaks.

        Reading an unknown document takes a millisecond, 30 at worst, and no client may fill the event loop with them.
        Raises as `prepare`.
        """
        text = self._persisted_queries.resolve(query, extensions, client.who)
        if text in self._documents:
            return self._prepare(text, operation_name, extensions, client)
        async with self._turns.turn(client):
            return self._prepare(text, operation_name, extensions, client)

    def _prepare(
        self, text: str, operation_name: str | None, extensions: dict[str, Any] | None, client: Client = NOBODY
    ) -> Prepared:
        prepared = self._documents.prepare(text, operation_name, client.who)
        # Only what is valid is remembered.
        self._persisted_queries.remember(prepared.text, extensions, client.who)
        return prepared

    async def execute(self, prepared: Prepared, variables: dict[str, Any] | None, context: Context) -> dict[str, Any]:
        """Runs a query or mutation. The result has `data` unless the request was refused before execution.

        Never raises because of what a client did: errors are in the result, with codes, and unexpected ones are masked.
        """
        result: dict[str, Any] = decode_result(await self.run(prepared, variables, context))
        return result

    async def run(self, prepared: Prepared, variables: dict[str, Any] | None, context: Context) -> dict[str, Any]:
        """`execute`, for callers that write JSON: the data may contain fragments of JSON, which `orjson` writes as they
        are."""
        if self._extended is None and prepared.kind == "query":
            read = await self._reading.run(prepared, variables, context)
            if read is not None:
                data, errors = read
                return _formatted(data, errors, prepared, context)
            context.budget = Budget()
        return await self._execute(prepared, variables, context)

    async def _execute(self, prepared: Prepared, variables: dict[str, Any] | None, context: Context) -> dict[str, Any]:
        if self._extended is not None:
            context.contents = _contents(prepared)
            outcome = await self._extended.execute(
                prepared.text,
                variable_values=variables,
                context_value=context,
                operation_name=prepared.operation_name,
            )
            return _formatted(outcome.data, outcome.errors, prepared, context)
        if prepared.kind == "mutation":
            posted = await self._posting.run(prepared, variables, context)
            if posted is not None:
                count_errors(context.chat, posted.get("errors", []))
                return posted
        context.contents = _contents(prepared)
        result = execute(
            self._graphql_schema,
            prepared.document,
            context_value=context,
            variable_values=variables,
            operation_name=prepared.operation_name,
            is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
        )
        done: ExecutionResult = await result if isawaitable(result) else result
        return _formatted(done.data, done.errors, prepared, context)

    async def subscribe(
        self,
        prepared: Prepared,
        variables: dict[str, Any] | None,
        context: Context,
        sink: Sink,
        *,
        after: str | None = None,
    ) -> Subscriber:
        """Starts a subscription; the caller closes the subscriber. `after` replaces that of the operation.

        Raises:
            RaqcoonError: the arguments are wrong, or what `resolvers.subscribe` raises.
        """
        name, arguments, render = self._read_subscription(prepared, variables)
        wanted = arguments.get("filter") or {}
        return await subscribe(
            context.chat,
            context.viewer,
            channel_id=arguments["channelId"],
            after=arguments.get("after") if after is None else after,
            filter=input_rules.message_filter(wanted.get("authors"), wanted.get("lanes"), wanted.get("providers")),
            cohort=render,
            render=render,
            sink=sink,
            client=context.client.who,
            changes=name == "changes",
        )

    def _read_subscription(
        self, prepared: Prepared, variables: dict[str, Any] | None
    ) -> tuple[str, dict[str, Any], SharedRender]:
        """The root field and its arguments, and what makes its results.

        The executor is a cycle of references. It must not live until an old generation of the garbage collector while
        the log is read, so it is used only inside this method.
        """
        executor = build_executor(self._graphql_schema, prepared, variables)
        if isinstance(executor, list):
            raise _bad_input(executor[0], prepared)
        root = self._graphql_schema.subscription_type
        assert root is not None
        fields = collect_fields(
            self._graphql_schema, executor.fragments, executor.variable_values, root, executor.operation
        ).grouped_field_set
        # Validation has left exactly one root field, without @skip and @include.
        details = next(iter(fields.values()))[0]
        try:
            arguments = get_argument_values(
                root.fields[details.node.name.value],
                details.node,
                executor.variable_values,
                details.fragment_variable_values,
            )
        except GraphQLError as error:
            raise _bad_input(error, prepared) from None
        render = self._renders.find(prepared, executor.variable_values, variables)
        return details.node.name.value, arguments, render


def _contents(prepared: Prepared) -> int:
    return min(MAX_CONTENTS, prepared.text.count("content"))


def decode_result(result: dict[str, Any]) -> dict[str, Any]:
    """A result whose data may contain fragments of JSON, with these decoded."""
    if result.get("data") is None:
        return result
    return {**result, "data": orjson.loads(orjson.dumps(result["data"]))}


def _formatted(data: Any, errors: list[GraphQLError] | None, prepared: Prepared, context: Context) -> dict[str, Any]:
    if not errors:
        return {"data": data}
    formatted = count_errors(context.chat, format_graphql_errors(errors, prepared.arguments))
    if data is None and all(error.path is None for error in errors):
        # A request error: nothing was executed, so there is no data to be null.
        return {"errors": formatted}
    return {"errors": formatted, "data": data}


def _bad_input(error: GraphQLError, prepared: Prepared) -> BadUserInput:
    formatted = format_graphql_error(error, prepared.arguments)
    argument = formatted["extensions"].get("argument", "variables")
    return BadUserInput(argument, f"is not valid: {formatted['message']}")


def _with_prepared_documents(schema: Schema, documents: Documents) -> Schema:
    """The same contract with the same extensions, for documents that are parsed and validated already."""

    class FromCache(SchemaExtension):
        def on_parse(self) -> Generator[None, None, None]:
            context = self.execution_context
            assert context.query is not None
            context.graphql_document = documents.parsed(context.query)
            yield

        def on_validate(self) -> Generator[None, None, None]:
            self.execution_context.pre_execution_errors = []
            yield

    return build_schema((*schema.extensions, FromCache))
