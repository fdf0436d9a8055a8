"""Runs queries by their plans. Introspection runs in a thread, and its results are kept."""

import asyncio
from collections.abc import Awaitable
from typing import Any

import orjson
from cachetools import LRUCache
from graphql import (
    DocumentNode,
    ExecutionResult,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    OperationDefinitionNode,
    SelectionSetNode,
    execute,
)
from graphql.execution.values import VariableValues, get_variable_values
from strawberry.execution import optimized_is_awaitable

from errors import Unavailable
from resolvers.fair_queue import Client
from schema.context import Context
from schema.documents import Prepared
from schema.message_json import NotPlain
from schema.query_plan import QueryPlan, Values, directive_variables, plan_query
from schema.query_run import QueryRun
from schema.rendering import build_executor
from schema.turns import Turns

PLANS_MAX = 512
"""Plans that are kept. A document has one for each set of values of the variables in its directives."""
EXPENSIVE_SECONDS = 0.01
"""A document that uses the event loop for longer has to take turns from its next execution on."""
INTROSPECTIONS_BYTES = 4 * 1024 * 1024
"""Size of the results of introspection that are kept. That of GraphiQL has 40 KB."""

_Key = bytes


class Reading:
    """Runs queries that have a plan."""

    def __init__(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self._directive_variables: LRUCache[_Key, tuple[str, ...]] = LRUCache(PLANS_MAX)
        self._plans: LRUCache[tuple[_Key, tuple[object, ...]], QueryPlan | None] = LRUCache(PLANS_MAX)
        self._introspected: LRUCache[_Key, dict[str, bytes]] = LRUCache(
            INTROSPECTIONS_BYTES, getsizeof=lambda members: sum(map(len, members.values()))
        )
        self._introspecting = Turns()
        self._expensive: LRUCache[_Key, float] = LRUCache(PLANS_MAX)
        self._turns = Turns()

    async def run(
        self, prepared: Prepared, variables: dict[str, Any] | None, context: Context
    ) -> tuple[dict[str, Any] | None, list[GraphQLError]] | None:
        """The data, with fragments of JSON in it, and the errors. None if graphql-core has to execute the query.

        When it returns None, it has only read.
        """
        given = variables or {}
        key = prepared.digest
        plan = self._plan(key, prepared, given)
        if plan is None:
            return None
        values = Values(plan, given)
        others: dict[str, Any] = {}
        try:
            if values.plain is None:
                values.coerced()
            if plan.introspection:
                others.update(await self._introspect(key, plan, prepared, given, context.client))
        except GraphQLError:
            return None
        errors: list[GraphQLError] = []
        if plan.foreign:
            done = self._execute(plan.foreign, prepared, given, context)
            foreign = done if isinstance(done, ExecutionResult) else await done
            errors += foreign.errors or ()
            if foreign.data is None:
                return None, errors
            others.update(foreign.data)
        took_seconds = self._expensive.get(key, 0.0)
        run = QueryRun(context, values)
        try:
            if took_seconds > EXPENSIVE_SECONDS:
                data = await self._in_turn(run, plan, others, context)
            else:
                data = await run.data(plan, others)
        except NotPlain:
            return None
        if max(run.pace.busy_seconds, took_seconds) > EXPENSIVE_SECONDS:
            self._expensive[key] = run.pace.busy_seconds
        return data, errors + run.errors

    async def _in_turn(
        self, run: QueryRun, plan: QueryPlan, others: dict[str, Any], context: Context
    ) -> dict[str, Any] | None:
        """Runs the query in its client's turn. Within a turn it does not wait until the client has taken earlier
        answers, since all others would wait with it."""
        context.waits_for_room = gave_up = False
        while True:
            async with self._turns.turn(context.client) as turn:
                turn.took_seconds = 0.0
                if context.has_room or gave_up:
                    data = await run.data(plan, others)
                    turn.took_seconds = run.pace.busy_seconds
                    return data
            try:
                await context.wait_for_room()
            except Unavailable:
                gave_up = True  # The first read says so, in its place.

    # -- plans -------------------------------------------------------------------------------------------------

    def _plan(self, key: _Key, prepared: Prepared, given: dict[str, Any]) -> QueryPlan | None:
        names = self._directive_variables.get(key)
        if names is None:
            names = self._directive_variables[key] = directive_variables(prepared)
        shape: tuple[object, ...] = ()
        if names:
            shape = tuple(given.get(name) for name in names)
            if not all(type(value) is bool for value in shape):
                coerced = get_variable_values(self._schema, prepared.operation.variable_definitions or (), given)
                if not isinstance(coerced, VariableValues):
                    return None
                shape = tuple(coerced.coerced.get(name) for name in names)
        try:
            return self._plans[key, shape]
        except KeyError:
            pass
        executor = build_executor(self._schema, prepared, given)
        if isinstance(executor, list):
            return None
        try:
            plan = plan_query(self._schema, prepared, executor)
        except GraphQLError:
            return None
        self._plans[key, shape] = plan
        return plan

    # -- introspection -----------------------------------------------------------------------------------------

    async def _introspect(
        self, key: _Key, plan: QueryPlan, prepared: Prepared, given: dict[str, Any], client: Client
    ) -> dict[str, Any]:
        """What `__schema` and `__type` answer, by their names in the result.

        Raises:
            GraphQLError: it cannot be answered.
        """
        keeps = not prepared.operation.variable_definitions
        kept = self._introspected.get(key) if keeps else None
        if kept is None:
            async with self._introspecting.turn(client):
                # In a thread: then the event loop only waits for the interpreter's lock, a moment at a time.
                result = await asyncio.to_thread(self._execute, plan.introspection, prepared, given)
            assert isinstance(result, ExecutionResult)
            if result.errors:
                raise result.errors[0]
            kept = {name: orjson.dumps(value) for name, value in (result.data or {}).items()}
            if keeps and sum(map(len, kept.values())) <= INTROSPECTIONS_BYTES // 4:
                self._introspected[key] = kept
        return {name: orjson.Fragment(value) for name, value in kept.items()}

    def _execute(
        self,
        fields: tuple[FieldNode, ...],
        prepared: Prepared,
        given: dict[str, Any],
        context: Context | None = None,
    ) -> ExecutionResult | Awaitable[ExecutionResult]:
        """Some fields of the root, as an operation of their own."""
        operation = prepared.operation
        alone = OperationDefinitionNode(
            operation=operation.operation,
            name=operation.name,
            variable_definitions=operation.variable_definitions,
            directives=(),
            selection_set=SelectionSetNode(selections=fields),
        )
        fragments = [each for each in prepared.document.definitions if isinstance(each, FragmentDefinitionNode)]
        return execute(
            self._schema,
            DocumentNode(definitions=(alone, *fragments)),
            context_value=context,
            variable_values=given,
            is_awaitable=optimized_is_awaitable,  # type: ignore[arg-type]
        )
