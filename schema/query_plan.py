"""Queries as plans. A plan says which fields a document asks for. It is made once and then run without an executor.

A plan knows how channels, their pages and messages are read. Other fields of the root (introspection, revocations) are
executed by graphql-core, each set by itself. If a document asks a channel for anything else, there is no plan.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, NamedTuple

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLField,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    NamedTypeNode,
    NonNullTypeNode,
    OperationDefinitionNode,
    VariableNode,
    get_named_type,
)
from graphql.execution import Executor
from graphql.execution.collect_fields import FieldDetailsList, GroupedFieldSet, collect_fields
from graphql.execution.values import VariableValues, get_argument_values, get_variable_values

from schema.documents import Prepared
from schema.message_json import MessageJson, message_json

_PLAIN_TYPES: Mapping[str, type] = {"String": str, "ID": str, "Cursor": str, "Int": int}
_INT_MAX = 2**31 - 1
_ABSENT = object()


class Kind(Enum):
    """What a name of the result stands for."""

    TYPENAME = auto()
    CHANNEL = auto()
    CHANNELS = auto()
    MESSAGE = auto()
    INTROSPECTION = auto()
    FOREIGN = auto()
    """Any other field of the root: graphql-core executes it."""
    PAGE = auto()
    ID = auto()
    LAST_SEQUENCE = auto()
    HEAD_CURSOR = auto()
    CHANGES_CURSOR = auto()
    PAGE_INFO = auto()
    EDGES = auto()
    CURSOR = auto()
    NODE = auto()
    HAS_NEXT_PAGE = auto()
    HAS_PREVIOUS_PAGE = auto()
    START_CURSOR = auto()
    END_CURSOR = auto()


_FIELDS: Mapping[tuple[str, str], Kind] = {
    ("Query", "channel"): Kind.CHANNEL,
    ("Query", "channels"): Kind.CHANNELS,
    ("Query", "message"): Kind.MESSAGE,
    ("Query", "__schema"): Kind.INTROSPECTION,
    ("Query", "__type"): Kind.INTROSPECTION,
    ("Channel", "id"): Kind.ID,
    ("Channel", "lastSequence"): Kind.LAST_SEQUENCE,
    ("Channel", "headCursor"): Kind.HEAD_CURSOR,
    ("Channel", "changesCursor"): Kind.CHANGES_CURSOR,
    ("Channel", "messages"): Kind.PAGE,
    ("ChannelConnection", "pageInfo"): Kind.PAGE_INFO,
    ("ChannelConnection", "edges"): Kind.EDGES,
    ("ChannelEdge", "cursor"): Kind.CURSOR,
    ("ChannelEdge", "node"): Kind.NODE,
    ("MessageConnection", "pageInfo"): Kind.PAGE_INFO,
    ("MessageConnection", "edges"): Kind.EDGES,
    ("PageInfo", "hasNextPage"): Kind.HAS_NEXT_PAGE,
    ("PageInfo", "hasPreviousPage"): Kind.HAS_PREVIOUS_PAGE,
    ("PageInfo", "startCursor"): Kind.START_CURSOR,
    ("PageInfo", "endCursor"): Kind.END_CURSOR,
}
_COMPOSITE = {Kind.CHANNEL, Kind.CHANNELS, Kind.PAGE, Kind.PAGE_INFO, Kind.EDGES, Kind.NODE}


class Unplanned(Exception):
    """Raised inside this module when a document asks for something that plans do not know."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One name of the result: what it stands for, what is asked for below it, and where the document says so."""

    name: str
    kind: Kind
    nodes: tuple[FieldNode, ...]
    typename: str
    """The type of the object that the step belongs to."""
    arguments: "Arguments | None" = None
    steps: "tuple[Step, ...]" = ()
    message: MessageJson | None = None
    """How a message is written as JSON; for `message`, and for the edges of a page."""


class Arguments:
    """The arguments of one field. If none of them uses a variable, they are read only once."""

    __slots__ = ("_field", "_node", "_read", "_variables")

    def __init__(self, field: GraphQLField, node: FieldNode) -> None:
        self._field = field
        self._node = node
        self._read: dict[str, Any] | None = None
        self._variables: tuple[tuple[str, str, bool], ...] | None = None
        if all(isinstance(argument.value, VariableNode) for argument in node.arguments or ()):
            self._variables = tuple(
                (
                    argument.name.value,
                    argument.value.name.value,
                    isinstance(field.args[argument.name.value].type, GraphQLNonNull),
                )
                for argument in node.arguments or ()
                if isinstance(argument.value, VariableNode)
            )
        if not _has_variables(node):
            self._read = get_argument_values(field, node, VariableValues({}, {}))

    def read(self, values: "Values") -> dict[str, Any]:
        """The arguments by name. Raises GraphQLError if the values are not valid for them."""
        if self._read is not None:
            return self._read
        if self._variables is not None and values.plain is not None:
            arguments = {}
            for argument, variable, required in self._variables:
                value = values.plain.get(variable, _ABSENT)
                if value is not _ABSENT:
                    arguments[argument] = value
                if required and (value is _ABSENT or value is None):
                    break
            else:
                return arguments
        return get_argument_values(self._field, self._node, values.coerced())


class _Variable(NamedTuple):
    name: str
    plain_type: type | None
    required: bool


class Values:
    """The variables of one request: as they came if each obviously has its type, else coerced by graphql-core."""

    __slots__ = ("_coerced", "_given", "_plan", "plain")

    def __init__(self, plan: "QueryPlan", given: Mapping[str, Any]) -> None:
        self._plan = plan
        self._given = given
        self._coerced: VariableValues | None = None
        self.plain = plan.plain(given)

    def coerced(self) -> VariableValues:
        """The variables coerced by graphql-core. Raises GraphQLError if one does not have its type."""
        if self._coerced is None:
            coerced = get_variable_values(
                self._plan.schema, self._plan.operation.variable_definitions or (), dict(self._given)
            )
            if not isinstance(coerced, VariableValues):
                raise coerced[0]
            self._coerced = coerced
        return self._coerced


class QueryPlan:
    """The plan of one operation, for one set of values of the variables that its directives use."""

    __slots__ = ("_fully_plain", "_variables", "foreign", "introspection", "operation", "schema", "steps")

    def __init__(
        self,
        schema: GraphQLSchema,
        operation: OperationDefinitionNode,
        steps: tuple[Step, ...],
    ) -> None:
        self.schema = schema
        self.operation = operation
        self.steps = steps
        self.introspection = tuple(node for each in steps if each.kind is Kind.INTROSPECTION for node in each.nodes)
        self.foreign = tuple(node for each in steps if each.kind is Kind.FOREIGN for node in each.nodes)
        variables = []
        for definition in operation.variable_definitions or ():
            required = isinstance(definition.type, NonNullTypeNode)
            of_type = definition.type.type if isinstance(definition.type, NonNullTypeNode) else definition.type
            plain = _PLAIN_TYPES.get(of_type.name.value) if isinstance(of_type, NamedTypeNode) else None
            if definition.default_value is not None:
                plain = None
            variables.append(_Variable(definition.variable.name.value, plain, required))
        self._variables = tuple(variables)
        self._fully_plain = all(variable.plain_type is not None for variable in variables)

    def plain(self, given: Mapping[str, Any]) -> dict[str, Any] | None:
        """The variables that were given, if each is a string or number of its type, or null where that is allowed."""
        if not self._fully_plain:
            return None
        found: dict[str, Any] = {}
        for name, plain_type, required in self._variables:
            value: Any = given.get(name, _ABSENT)
            if type(value) is plain_type:
                if isinstance(value, int) and not -_INT_MAX <= value <= _INT_MAX:
                    return None
                found[name] = value
            elif required or not (value is None or value is _ABSENT):
                return None
            elif value is None:
                found[name] = None
        return found


def directive_variables(prepared: Prepared) -> tuple[str, ...]:
    """The variables on which the shape of the result may depend, in the whole document."""
    found: set[str] = set()
    for definition in prepared.document.definitions:
        if isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode):
            sets = [definition.selection_set]
            while sets:
                for selection in sets.pop().selections:
                    for directive in selection.directives or ():
                        for argument in directive.arguments or ():
                            if isinstance(argument.value, VariableNode):
                                found.add(argument.value.name.value)
                    inner = getattr(selection, "selection_set", None)
                    if inner is not None:
                        sets.append(inner)
    return tuple(sorted(found))


def plan_query(schema: GraphQLSchema, prepared: Prepared, executor: Executor[Any]) -> QueryPlan | None:
    """The plan of a query, or None if there is none. `executor` is graphql-core's for the same operation and
    variables."""
    root = schema.query_type
    assert root is not None
    fields = collect_fields(
        schema, executor.fragments, executor.variable_values, root, executor.operation
    ).grouped_field_set
    try:
        steps = _steps(executor, root, fields)
    except Unplanned:
        return None
    return QueryPlan(schema, prepared.operation, steps)


def _steps(executor: Executor[Any], of_type: GraphQLObjectType, fields: GroupedFieldSet) -> tuple[Step, ...]:
    return tuple(_step(executor, of_type, name, details) for name, details in fields.items())


def _step(executor: Executor[Any], of_type: GraphQLObjectType, name: str, details: FieldDetailsList) -> Step:
    nodes = tuple(detail.node for detail in details)
    field_name = nodes[0].name.value
    if field_name == "__typename":
        return Step(name, Kind.TYPENAME, nodes, of_type.name)
    kind = _FIELDS.get((of_type.name, field_name), Kind.FOREIGN)
    if kind is Kind.FOREIGN and of_type is not executor.schema.query_type:
        raise Unplanned
    if kind is Kind.INTROSPECTION or kind is Kind.FOREIGN:
        return Step(name, kind, nodes, of_type.name)
    field = of_type.fields[field_name]
    inner_type = get_named_type(field.type)
    arguments = None
    if field.args:
        try:
            arguments = Arguments(field, nodes[0])
        except GraphQLError:
            raise Unplanned from None
    if kind is Kind.MESSAGE or (kind is Kind.EDGES and of_type.name == "MessageConnection"):
        assert isinstance(inner_type, GraphQLObjectType)
        json = message_json(executor, inner_type, details)
        if json is None:
            raise Unplanned
        return Step(name, kind, nodes, of_type.name, arguments, message=json)
    steps: Sequence[Step] = ()
    if kind in _COMPOSITE:
        assert isinstance(inner_type, GraphQLObjectType)
        steps = _steps(executor, inner_type, executor.collect_subfields(inner_type, details).grouped_field_set)
    return Step(name, kind, nodes, of_type.name, arguments, tuple(steps))


def _has_variables(node: FieldNode) -> bool:
    values = [argument.value for argument in node.arguments or ()]
    while values:
        value = values.pop()
        if isinstance(value, VariableNode):
            return True
        values += getattr(value, "values", ())
        values += [field.value for field in getattr(value, "fields", ())]
    return False
