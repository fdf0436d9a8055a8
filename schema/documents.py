"""Documents: each text is parsed and validated once and kept in a bounded cache. Documents that are too large in any
respect are refused."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Literal

from graphql import (
    ArgumentNode,
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    GraphQLError,
    GraphQLSchema,
    Node,
    OperationDefinitionNode,
    VariableDefinitionNode,
    VariableNode,
    Visitor,
    parse,
    specified_rules,
    validate,
    visit,
)

from errors import DocumentInvalid
from schema.errors import invalid, unparsable
from schema.proportions import DocumentLimits, disproportion, oversize
from schema.shared_cache import SharedCache

CACHED_CHARACTERS = 1024 * 1024
"""Length of the texts of all documents that are kept, in characters (`SharedCache`)."""
ERRORS_MAX = 20
"""Validation errors reported for one document."""

Kind = Literal["query", "mutation", "subscription"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One operation of a validated document, ready to run any number of times.

    `text` is the same string object that the cache holds. `digest` stands for the text and `operation_name`; use it
    instead of them in what is kept for long. `arguments` names, for each variable, the argument that it is used for.
    `event_variables` are the variables that a subscription's results can depend on: those that are used anywhere but in
    the arguments of the root field.
    """

    text: str
    digest: bytes
    operation_name: str | None
    kind: Kind
    document: DocumentNode = field(repr=False)
    operation: OperationDefinitionNode = field(repr=False)
    arguments: Mapping[str, str] = field(repr=False)
    event_variables: tuple[str, ...] = field(repr=False)


class _VariableUses(Visitor):
    """Where a document uses its variables. Other operations of the document count too, which only means that fewer
    results are shared."""

    def __init__(self, operation: OperationDefinitionNode, document: DocumentNode) -> None:
        super().__init__()
        self.arguments: dict[str, str] = {}
        self.beyond_root: set[str] = set()
        self._fragments = {d.name.value: d for d in document.definitions if isinstance(d, FragmentDefinitionNode)}
        self._argument: ArgumentNode | None = None
        self._in_root = False
        # Fields of the root selection set may also be written in fragments. All other fields count as not of the root.
        self._root_fields = set(map(id, _root_fields(operation, self._fragments)))
        visit(document, self)

    def enter_field(self, node: FieldNode, *_args: Any) -> None:
        self._in_root = id(node) in self._root_fields

    def enter_selection_set(self, *_args: Any) -> None:
        self._in_root = False

    def enter_directive(self, *_args: Any) -> None:
        self._in_root = False

    def enter_argument(self, node: ArgumentNode, *_args: Any) -> None:
        self._argument = node

    def enter_variable(self, node: VariableNode, _key: Any, parent: Node, *_args: Any) -> None:
        if isinstance(parent, VariableDefinitionNode):
            return
        name = node.name.value
        if self._argument is not None:
            self.arguments.setdefault(name, self._argument.name.value)
        if not self._in_root:
            self.beyond_root.add(name)


def _root_fields(
    operation: OperationDefinitionNode, fragments: Mapping[str, FragmentDefinitionNode]
) -> list[FieldNode]:
    found: list[FieldNode] = []
    seen: set[str] = set()
    sets = [operation.selection_set]
    while sets:
        for selection in sets.pop().selections:
            if isinstance(selection, FieldNode):
                found.append(selection)
            elif (inner := getattr(selection, "selection_set", None)) is not None:
                sets.append(inner)
            else:
                name = selection.name.value  # type: ignore[attr-defined]
                if name not in seen and name in fragments:
                    seen.add(name)
                    sets.append(fragments[name].selection_set)
    return found


@dataclass(slots=True)
class _Document:
    text: str
    node: DocumentNode
    prepared: dict[str | None, Prepared]


class Documents:
    """The cache of documents. Those that are refused are not kept."""

    def __init__(
        self,
        schema: GraphQLSchema,
        *,
        limits: DocumentLimits = DocumentLimits(),  # noqa: B008 - it is frozen
        cached_characters: int = CACHED_CHARACTERS,
    ) -> None:
        self._schema = schema
        self._limits = limits
        self._cached: SharedCache[_Document] = SharedCache(cached_characters)

    def __len__(self) -> int:
        return len(self._cached)

    def __contains__(self, text: str) -> bool:
        """Whether a document is known, so that preparing it takes no time."""
        return text in self._cached

    def prepare(self, text: str, operation_name: str | None, who: Hashable = None) -> Prepared:
        """The operation of that name, or the only one. `who` is the client that asks for it.

        Raises:
            DocumentUnparsable: the text is not GraphQL, or is too long.
            DocumentInvalid: it does not fit the schema, or does not say which operation to run.
        """
        document = self._find(text, who)
        prepared = document.prepared.get(operation_name)
        if prepared is None:
            # At most one entry for each operation of the document, and one for the only one without its name.
            prepared = document.prepared[operation_name] = _choose(document, operation_name)
        return prepared

    def parsed(self, text: str) -> DocumentNode:
        """The validated document of a text. Raises as `prepare`."""
        return self._find(text).node

    def _find(self, text: str, who: Hashable = None) -> _Document:
        document = self._cached.get(text, who)
        if document is None:
            document = _Document(text, self._read(text), {})
            self._cached.put(text, document, len(text), who)
        return document

    def _read(self, text: str) -> DocumentNode:
        if (excess := oversize(text, self._limits)) is not None:
            raise unparsable(excess)
        try:
            # Nodes keep their locations, so that errors can name them. They all refer to one copy of the text.
            node = parse(text, max_lexical_tokens=self._limits.tokens)
        except GraphQLError as error:
            raise unparsable(error) from None
        except RecursionError:
            raise unparsable(GraphQLError("The document is nested too deeply.")) from None
        if (excess := disproportion(node, self._limits)) is not None:
            raise invalid([excess])
        errors = validate(self._schema, node, specified_rules, max_errors=ERRORS_MAX)
        if errors:
            raise invalid(errors)
        return node


def _choose(document: _Document, operation_name: str | None) -> Prepared:
    operations = [d for d in document.node.definitions if isinstance(d, OperationDefinitionNode)]
    if operation_name is not None:
        operations = [o for o in operations if o.name is not None and o.name.value == operation_name]
    if not operations:
        raise DocumentInvalid("The document has no operation of that name." if operation_name else "No operation.")
    if len(operations) > 1:
        raise DocumentInvalid("operationName must be given: the document has several operations.")
    operation = operations[0]
    uses = _VariableUses(operation, document.node)
    return Prepared(
        document.text,
        blake2b(f"{operation_name or ''}\n{document.text}".encode(), digest_size=16).digest(),
        operation_name,
        operation.operation.value,
        document.node,
        operation,
        uses.arguments,
        tuple(sorted(uses.beyond_root)),
    )
