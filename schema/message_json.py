"""Makes JSON of what a query selects of each message of a page, on the message or on its edge.

A value that clearly has the type of its field is written as it is. Any other value is serialised by its GraphQL type.
If the type refuses it, graphql-core runs the query and reports what is wrong.
"""

from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Any

import orjson
from graphql import GraphQLObjectType, get_named_type
from graphql.execution import Executor
from graphql.execution.collect_fields import FieldDetailsList

from message_rows import CONTENT, MessageRows
from messages import Message
from schema.row_json import OddValue, RowJson
from schema.selection import Leaf, MessageSelection, leaves_below

INT_MAX = 2**31 - 1
CHUNK_MESSAGES = 64
"""How many messages one step of the loop encodes, when they are encoded one by one."""
CHUNK_ROWS = 256
"""How many messages one step encodes, when they are encoded column by column."""
CHUNK_BYTES = 128 * 1024
"""About how much one step encodes at most. Only a single message may be longer."""
_NAME_BYTES = 24


class NotPlain(Exception):
    """Raised when a message has a value that its type does not allow."""


class _Values:
    """The leaves selected on a message."""

    __slots__ = ("_constants", "_integers", "_moments", "_names", "_plain_types", "_read", "_selection", "contents")

    def __init__(self, leaves: tuple[Leaf, ...]) -> None:
        self._selection = MessageSelection("", leaves)
        self._names = tuple(leaf.name for leaf in leaves)
        # `__class__` stands for `__typename`, whose value is always the same.
        self._constants = {leaf.name: leaf.serialize(None) for leaf in leaves if leaf.attribute == "__class__"}
        attributes = ["epoch" if leaf.attribute == "__class__" else leaf.attribute for leaf in leaves]
        # Two more than there are names, because `attrgetter` returns a tuple only if it reads two or more values.
        self._read = attrgetter(*attributes, "sequence", "sequence")
        self._integers = [
            index for index, attribute in enumerate(attributes) if attribute in ("sequence", "token_count", "revision")
        ]
        self._moments = [
            index for index, attribute in enumerate(attributes) if attribute in ("timestamp", "edited_at", "erased_at")
        ]
        self._plain_types: set[tuple[type, ...]] = set()
        self.contents = attributes.count("content")

    def parts(self) -> list[bytes | str]:
        """The parts that the JSON of a message is made of, for `RowJson`."""
        found: list[bytes | str] = []
        for leaf in self._selection.leaves:
            name = orjson.dumps(leaf.name) + b":"
            found.append((b"," if found else b"{") + name)
            constant = self._constants.get(leaf.name)
            found.append(leaf.attribute if constant is None else orjson.dumps(constant))
        return [*found, b"}"]

    def __call__(self, message: Message) -> dict[str, Any]:
        values = self._read(message)
        types = tuple(map(type, values))
        if types not in self._plain_types and not self._are_plain(message, types):
            return self._serialised(message)
        for index in self._integers:
            value = values[index]
            if value is not None and not -INT_MAX <= value <= INT_MAX:
                return self._serialised(message)
        for index in self._moments:
            moment = values[index]
            # orjson leaves out the fraction if it is zero. In the contract it always has six digits.
            if moment is not None and not moment.microsecond:
                return self._serialised(message)
        found = dict(zip(self._names, values, strict=False))
        if self._constants:
            found.update(self._constants)
        return found

    def _are_plain(self, message: Message, types: tuple[type, ...]) -> bool:
        """Whether values of these Python types may be written as they are.

        One message is enough to find out, because a GraphQL type treats all values of one Python type alike.
        """
        serialised = self._serialised(message)
        values = dict(zip(self._names, self._read(message), strict=False)) | self._constants
        if orjson.dumps(serialised) != orjson.dumps(values):
            return False
        self._plain_types.add(types)
        return True

    def _serialised(self, message: Message) -> dict[str, Any]:
        found = self._selection.read(message)
        if found is None:
            raise NotPlain
        return found


class _Typename:
    """`__typename` of an edge."""

    def __init__(self, name: str) -> None:
        self._name = name

    def parts(self) -> list[bytes | str]:
        return [orjson.dumps(self._name)]

    def __call__(self, message: Message) -> str:
        return self._name


class _Position:
    """`cursor` of an edge."""

    def parts(self) -> list[bytes | str]:
        return ["cursor"]

    def __call__(self, message: Message) -> str:
        return message.cursor


_Member = _Values | _Typename | _Position


class MessageJson:
    """Makes the JSON of messages.

    `contents` is how often the content is in the JSON of a message. `overhead_bytes` is about how long the rest is.
    """

    __slots__ = ("_members", "_rows", "_values", "contents", "overhead_bytes")

    def __init__(self, values: _Values | None, members: "tuple[tuple[str, _Member], ...]" = ()) -> None:
        self._values = values
        self._members = members
        parts = [values] if values is not None else [make for _, make in members if isinstance(make, _Values)]
        self.contents = sum(part.contents for part in parts)
        names = [name for part in parts for name in part._names] + [name for name, _ in members]
        self.overhead_bytes = sum(len(name) + _NAME_BYTES for name in names)
        self._rows = RowJson(self._parts())

    def value(self, message: Message) -> dict[str, Any]:
        """The selected values of a message, as `orjson` encodes them. Raises NotPlain."""
        if self._values is not None:
            return self._values(message)
        return {name: make(message) for name, make in self._members}

    def encode(self, messages: Sequence[Message]) -> bytes:
        """The messages as elements of a JSON list, without its brackets. Raises NotPlain."""
        try:
            return orjson.dumps([self.value(message) for message in messages])[1:-1]
        except TypeError:
            raise NotPlain from None

    def encode_rows(self, messages: MessageRows) -> Iterator[bytes]:
        """The same for rows, in several parts. Each part takes one step of the loop. Raises NotPlain."""
        for part in stretches(messages, CHUNK_ROWS):
            try:
                yield self._rows.encode(part)
            except OddValue:
                for chunk in stretches(part, CHUNK_MESSAGES):
                    yield self.encode(chunk)

    def _parts(self) -> Sequence[bytes | str]:
        """The parts that the JSON of a message is made of, for `RowJson`."""
        if self._values is not None:
            return self._values.parts()
        found: list[bytes | str] = []
        for name, make in self._members:
            found.append((b"," if found else b"{") + orjson.dumps(name) + b":")
            found += make.parts()
        return [*found, b"}"]


def stretches(messages: MessageRows, count_max: int) -> Iterator[MessageRows]:
    """Cuts messages into stretches. Each has at least one message, at most `count_max`, and about `CHUNK_BYTES` at
    most."""
    if len(messages) <= count_max and messages.characters <= CHUNK_BYTES:
        if messages:
            yield messages
        return
    start = size = 0
    for index, content in enumerate(messages.columns[CONTENT]):
        if index > start and (index - start == count_max or size + len(content) > CHUNK_BYTES):
            yield messages[start:index]
            start, size = index, 0
        size += len(content)
    yield messages[start:]


def message_json(executor: Executor[Any], of_type: GraphQLObjectType, details: FieldDetailsList) -> MessageJson | None:
    """What makes the JSON of a selection on `Message` or `MessageEdge`. None if it selects anything but plain
    leaves."""
    if of_type.name == "Message":
        leaves = leaves_below(executor, of_type, details)
        return None if leaves is None else MessageJson(_Values(leaves))
    members: list[tuple[str, _Member]] = []
    for name, inner in executor.collect_subfields(of_type, details).grouped_field_set.items():
        field_name = inner[0].node.name.value
        if field_name == "__typename":
            members.append((name, _Typename(of_type.name)))
        elif field_name == "cursor":
            members.append((name, _Position()))
        elif field_name == "node":
            node_type = get_named_type(of_type.fields["node"].type)
            assert isinstance(node_type, GraphQLObjectType)
            leaves = leaves_below(executor, node_type, inner)
            if leaves is None:
                return None
            members.append((name, _Values(leaves)))
        else:
            return None
    return MessageJson(None, tuple(members))
