"""Errors as GraphQL shows them: `message`, `locations`, `path`, `extensions.code`. Unexpected errors are masked."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from graphql import GraphQLError, VariableDefinitionNode, print_ast

from errors import BadUserInput, DocumentError, DocumentInvalid, DocumentUnparsable, InternalError, RaqcoonError
from resolvers.chat import Chat

logger = logging.getLogger(__name__)

MESSAGE_CHARACTERS_MAX = 1_000
"""The longest message of an error. It repeats names that a client wrote, and twenty errors may repeat the same long
one."""
_NO_ARGUMENTS: Mapping[str, str] = {}
# Only the text of graphql-core's error says which variable or argument could not be coerced.
_VARIABLE = re.compile(r"Variable '\$(\w+)'")
_ARGUMENT = re.compile(r"Argument '(\w+)'")


def format_error(error: Exception) -> dict[str, Any]:
    """One error without a place in a document. Any error that is not a `RaqcoonError` is logged and masked."""
    if not isinstance(error, RaqcoonError):
        logger.error("An operation failed", exc_info=error)
        error = InternalError()
    return {"message": _cut(str(error)), "extensions": error.extensions}


def format_errors(error: Exception) -> list[dict[str, Any]]:
    """All errors of an exception: a document may have several problems, everything else has one."""
    return error.errors if isinstance(error, DocumentError) else [format_error(error)]


def count_errors(chat: Chat, errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Counts formatted errors that are about to be sent to a client, by code. Returns them."""
    chat.refusals.update(error["extensions"]["code"] for error in errors)
    return errors


def format_graphql_error(error: GraphQLError, arguments: Mapping[str, str] = _NO_ARGUMENTS) -> dict[str, Any]:
    """An error of an execution. `arguments` tells for which argument each variable is used."""
    cause: Exception = error
    coercion = error.path is None
    while isinstance(cause, GraphQLError) and cause.original_error is not None:
        cause = cause.original_error
        # When an input is wrong, graphql-core raises an error that already has the input's node. When an output cannot
        # be completed, the error has no node, and the executor adds it.
        coercion = coercion or (isinstance(cause, GraphQLError) and bool(cause.nodes))
    if isinstance(cause, GraphQLError) and coercion:
        return _coercion_error(error, arguments)
    if not isinstance(cause, RaqcoonError):
        logger.error("A field failed", exc_info=cause)
        cause = InternalError()
    return _located(error, str(cause), cause.extensions)


def format_broken_field(cause: Exception, places: Sequence[tuple[int, int]], path: list[str]) -> dict[str, Any]:
    """The error of a field whose value does not fit its type, for fields that no executor has completed. `places` are
    lines and columns of the document."""
    formatted = format_graphql_error(GraphQLError(str(cause), path=path, original_error=cause))
    locations = [{"line": line, "column": column} for line, column in places]
    return {"message": formatted.pop("message"), "locations": locations, **formatted}


def format_graphql_errors(
    errors: Sequence[GraphQLError], arguments: Mapping[str, str] = _NO_ARGUMENTS
) -> list[dict[str, Any]]:
    return [format_graphql_error(error, arguments) for error in errors]


def unparsable(error: GraphQLError) -> DocumentUnparsable:
    """The refusal of a document that is not GraphQL."""
    return DocumentUnparsable(_cut(error.message), [_document_error(error, DocumentUnparsable.code)])


def invalid(errors: Sequence[GraphQLError]) -> DocumentInvalid:
    """The refusal of a document that does not fit the schema."""
    return DocumentInvalid(_cut(errors[0].message), [_document_error(error, DocumentInvalid.code) for error in errors])


def _coercion_error(error: GraphQLError, arguments: Mapping[str, str]) -> dict[str, Any]:
    # After the colon graphql-core writes values in Python's syntax.
    text = error.message.partition(":")[0]
    extensions = {"code": BadUserInput.code}
    if named := _VARIABLE.search(text):
        extensions["argument"] = arguments.get(named[1], named[1])
        definition = error.nodes[0] if error.nodes else None
        if isinstance(definition, VariableDefinitionNode):
            text += f"; its type is {print_ast(definition.type)}"
    elif named := _ARGUMENT.search(text):
        extensions["argument"] = named[1]
    return _located(error, text + ".", extensions)


def _cut(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else f"{text[: MESSAGE_CHARACTERS_MAX - 1]}…"


def _located(error: GraphQLError, message: str, extensions: dict[str, Any]) -> dict[str, Any]:
    formatted: dict[str, Any] = {"message": _cut(message)}
    if error.locations:
        formatted["locations"] = [location.formatted for location in error.locations]
    if error.path is not None:
        formatted["path"] = error.path
    formatted["extensions"] = extensions
    return formatted


def _document_error(error: GraphQLError, code: str) -> dict[str, Any]:
    return _located(error, error.message, {"code": code})
