"""How large a document may be in each respect, found in one walk over its text.

Strawberry's MaxAliasesLimiter and QueryDepthLimiter follow every fragment spread: with 18 fragments that spread each
other twice that takes 3 s. Here each fragment is looked at once.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from graphql import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    InlineFragmentNode,
    OperationDefinitionNode,
)


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """What a document may have at most. GraphiQL's introspection has 200 tokens, 15 levels, 20 fields of one name."""

    characters: int = field(default=128 * 1024, metadata={"setting": "max_document_characters"})
    """Characters: enough for a message of the greatest length that is written into the document, with some escapes.
    Reading so many takes up to 30 ms."""
    tokens: int = field(default=1_000, metadata={"setting": "max_document_tokens"})
    """Lexical tokens, and also comments. Validating so many takes about 30 ms at worst."""
    aliases: int = field(default=30, metadata={"setting": "max_document_aliases"})
    """How often one field can be asked for side by side."""
    depth: int = field(default=20, metadata={"setting": "max_document_depth"})
    """How deep fields may be nested."""
    repeats: int = field(default=50, metadata={"setting": "max_document_repeats"})
    """Fields of one name, in the whole document. Validation compares them pairwise: 500 would take 50 ms."""


@dataclass(slots=True)
class _Part:
    """An operation or a fragment by itself: how deep its own fields are nested, and which fragments it spreads at which
    depth."""

    depth: int
    spreads: list[tuple[int, str]]


def oversize(text: str, limits: DocumentLimits) -> GraphQLError | None:
    """Why a text is too long to be parsed at all; None when it is not.

    graphql-core does not count comments as tokens, although each costs as much as one.
    """
    if len(text) > limits.characters:
        return GraphQLError(f"A document may have at most {limits.characters} characters.")
    if text.count("#") > limits.tokens and _comments(text) > limits.tokens:
        return GraphQLError(f"A document may have at most {limits.tokens} comments.")
    return None


_COMMENT_OR_STRING = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*+"""|"(?:[^"\\\r\n]|\\.)*+"|(#)', re.DOTALL)


def _comments(text: str) -> int:
    """How many comments a text has. What looks like a comment inside a string is not counted."""
    return sum(found[1] is not None for found in _COMMENT_OR_STRING.finditer(text))


def disproportion(document: DocumentNode, limits: DocumentLimits) -> GraphQLError | None:
    """What is too large in a document; None when nothing is. Takes time in proportion to the length of its text."""
    aliases = 0
    names: Counter[str] = Counter()
    fragments: dict[str, _Part] = {}
    operations: list[tuple[OperationDefinitionNode, _Part]] = []
    for definition in document.definitions:
        if not isinstance(definition, OperationDefinitionNode | FragmentDefinitionNode):
            continue
        part = _Part(0, [])
        sets = [(1, definition.selection_set)]
        while sets:
            depth, selections = sets.pop()
            for node in selections.selections:
                if isinstance(node, FieldNode):
                    part.depth = max(part.depth, depth)
                    names[node.name.value] += 1
                    if names[node.name.value] > limits.repeats:
                        return GraphQLError(f"A document may name one field at most {limits.repeats} times.", node)
                    aliases += node.alias is not None
                    if aliases > limits.aliases:
                        return GraphQLError(f"A document may have at most {limits.aliases} aliases.", node)
                    if node.selection_set is not None:
                        sets.append((depth + 1, node.selection_set))
                elif isinstance(node, InlineFragmentNode):
                    sets.append((depth, node.selection_set))
                elif isinstance(node, FragmentSpreadNode):
                    part.spreads.append((depth - 1, node.name.value))
        if isinstance(definition, FragmentDefinitionNode):
            fragments[definition.name.value] = part
        else:
            operations.append((definition, part))
    depths: dict[str, int] = {}
    for operation, part in operations:
        if _depth(part, fragments, depths) > limits.depth:
            return GraphQLError(f"A document may be at most {limits.depth} fields deep.", operation)
    return None


def _depth(part: _Part, fragments: dict[str, _Part], known: dict[str, int]) -> int:
    """How deep a part is with the fragments that it spreads. If these form a circle, which validation refuses, the
    result means nothing."""
    deepest = part.depth
    for above, name in part.spreads:
        if name not in known:
            known[name] = 0  # Only a circle of fragments comes back to it before its depth is known.
            if name in fragments:
                known[name] = _depth(fragments[name], fragments, known)
        deepest = max(deepest, above + known[name])
    return deepest
