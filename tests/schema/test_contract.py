"""The contract against design 2.1: names, types, nullability; that nothing in a message depends on who asks."""

import ast
import inspect
from pathlib import Path

import pytest
from graphql import (
    GraphQLInputObjectType,
    GraphQLObjectType,
    build_schema,
    get_named_type,
    is_introspection_type,
    lexicographic_sort_schema,
    print_schema,
)
from strawberry.types.field import StrawberryField

from messages import Message as StoredMessage
from schema import contract, export
from schema.operations import Operations

DESIGN = """
type Message {
  id: ID!
  channelId: ID!
  sequence: Int!
  cursor: Cursor!
  author: String!
  content: String!
  lane: String
  provider: String
  tokenCount: Int
  timestamp: DateTime!
  revision: Int!
  complete: Boolean!
  editedAt: DateTime
  erasedAt: DateTime
}
enum MessageChangeKind { APPENDED COMPLETED EDITED ERASED }
type MessageChange {
  cursor: Cursor!
  sequence: Int!
  channelId: ID!
  messageId: ID!
  kind: MessageChangeKind!
  revision: Int!
  piece: String
  content: String
  author: String!
  timestamp: DateTime!
}
input MessageFilter { authors: [String!]  lanes: [String!]  providers: [String!] }
type Channel {
  id: ID!
  lastSequence: Int!
  headCursor: Cursor!
  changesCursor: Cursor!
  messages(first: Int, after: Cursor, last: Int, before: Cursor, filter: MessageFilter): MessageConnection!
}
type Query {
  channel(id: ID!): Channel!
  channels(first: Int, after: String): ChannelConnection!
  message(id: ID!): Message
  revocations(first: Int, after: String): RevocationConnection!
}
type Revocation { author: String!  channelId: ID  until: DateTime  revokedAt: DateTime!  revokedBy: String! }
type RevocationEdge { cursor: String! node: Revocation! }
type RevocationConnection { edges: [RevocationEdge!]! pageInfo: PageInfo! }
type Mutation {
  postMessage(channelId: ID!, author: String!, content: String!, lane: String, provider: String,
              tokenCount: Int, idempotencyKey: String, complete: Boolean = true): Message!
  appendToMessage(id: ID!, revision: Int!, piece: String!, tokenCount: Int, complete: Boolean = false): Message!
  completeMessage(id: ID!): Message!
  editMessage(id: ID!, content: String!, revision: Int): Message!
  eraseMessage(id: ID!): Message!
  eraseAuthor(author: String!): Int!
  revokeAccess(author: String!, channelId: ID, until: DateTime): Revocation!
  restoreAccess(author: String!, channelId: ID): Boolean!
}
type Subscription {
  messages(channelId: ID!, after: Cursor, filter: MessageFilter): Message!
  changes(channelId: ID!, after: Cursor): MessageChange!
}
scalar Cursor
scalar DateTime
type PageInfo { hasNextPage: Boolean! hasPreviousPage: Boolean! startCursor: String endCursor: String }
type MessageEdge { cursor: Cursor! node: Message! }
type MessageConnection { edges: [MessageEdge!]! pageInfo: PageInfo! }
type ChannelEdge { cursor: String! node: Channel! }
type ChannelConnection { edges: [ChannelEdge!]! pageInfo: PageInfo! }
"""


def without_descriptions(sdl: str) -> str:
    schema = lexicographic_sort_schema(build_schema(sdl))
    for described in schema.type_map.values():
        described.description = None
        if isinstance(described, GraphQLObjectType | GraphQLInputObjectType):
            for field in described.fields.values():
                field.description = None
                for argument in getattr(field, "args", {}).values():
                    argument.description = None
    return print_schema(schema)


def test_contract_is_the_designs() -> None:
    assert without_descriptions(export.sdl()) == without_descriptions(DESIGN)


def test_committed_sdl_is_what_the_code_says() -> None:
    assert export.SDL_PATH.read_text(encoding="utf-8") == export.sdl(), "run: python -m schema.export"


def test_everything_in_the_contract_is_described() -> None:
    schema = build_schema(export.sdl())
    for name, described in schema.type_map.items():
        if is_introspection_type(described) or name in ("String", "Int", "Float", "Boolean", "ID"):
            continue
        assert described.description, name
        if isinstance(described, GraphQLObjectType | GraphQLInputObjectType):
            for field_name, field in described.fields.items():
                assert field.description, f"{name}.{field_name}"
                for argument_name, argument in getattr(field, "args", {}).items():
                    assert argument.description, f"{name}.{field_name}({argument_name})"


def test_message_fields_are_plain_attributes_that_cannot_depend_on_who_asks() -> None:
    message = contract.schema._schema.type_map["Message"]
    assert isinstance(message, GraphQLObjectType)
    for name, field in message.fields.items():
        definition = field.extensions["strawberry-definition"]
        assert isinstance(definition, StrawberryField)
        assert definition.is_basic_field, f"{name} has a resolver, an extension or a permission"
        assert not field.args, f"{name} has arguments"
        assert hasattr(StoredMessage, definition.python_name)
    # What an attribute computes, it computes of the message alone: properties take nothing but self.
    for name, attribute in vars(StoredMessage).items():
        if isinstance(attribute, property) and attribute.fget is not None:
            assert list(inspect.signature(attribute.fget).parameters) == ["self"], name


def test_type_graph_has_no_cycle_so_no_document_can_be_deep() -> None:
    schema = contract.schema._schema

    def walk(of_type: object, above: tuple[object, ...]) -> None:
        if isinstance(of_type, GraphQLObjectType):
            assert of_type not in above, [*above, of_type]
            for field in of_type.fields.values():
                walk(get_named_type(field.type), (*above, of_type))

    for root in (schema.query_type, schema.mutation_type, schema.subscription_type):
        walk(root, ())


def test_one_way_in_is_all_that_appends_to_the_log() -> None:
    """`Chat.append` alone calls the log's `append`, and of resolvers, schema and transports only `post_message` it."""
    root = Path(contract.__file__).parent.parent
    callers: dict[str, set[str]] = {"log": set(), "chat": set()}
    for room in ("resolvers", "schema", "transports"):
        for path in (root / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr == "append":
                    owner = getattr(node.value, "attr", getattr(node.value, "id", None))
                    if owner in callers:
                        callers[owner].add(path.name)
    assert callers == {"log": {"chat.py", "tracing.py"}, "chat": {"post_message.py"}}


@pytest.mark.parametrize("name", ["queryType", "mutationType", "subscriptionType"])
def test_full_introspection_is_within_the_limits(operations: Operations, name: str) -> None:
    from graphql import get_introspection_query

    text = get_introspection_query(
        specified_by_url=True, schema_description=True, directive_is_repeatable=True, input_value_deprecation=True
    )
    assert name in text
    assert operations.prepare(text, None).kind == "query"
