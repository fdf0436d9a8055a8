"""What a GraphQL request over HTTP asks for: read from the body of a POST, or from the query string of a GET."""

from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from errors import BadUserInput
from transports.gate.limits import Limits
from transports.wire.http_exchange import Refused
from transports.wire.json_codec import TooManyContainers


class GraphQLRequest(NamedTuple):
    query: str | None
    operation_name: str | None
    variables: dict[str, Any] | None
    extensions: dict[str, Any] | None


def read_body_json(body: bytes, limits: Limits) -> GraphQLRequest:
    """The request of a POST.

    Raises:
        Refused: the body is not what it has to be.
        BadUserInput: a member of it is not, or the variables are more than allowed.
    """
    try:
        parameters = limits.decode_json(body)
    except TooManyContainers as error:
        raise Refused(400, f"The body {error}.") from None
    except ValueError:
        raise Refused(400, "The body is not valid JSON.") from None
    if isinstance(parameters, list):
        raise Refused(400, "Batches are not run: send each operation in a request of its own.")
    return _request(parameters, limits)


def read_query_string(query_string: bytes, limits: Limits) -> GraphQLRequest:
    """The request of a GET.

    Raises:
        Refused: a parameter is not what it has to be.
        BadUserInput: as `read_body_json`.
    """
    parameters: dict[str, Any] = dict(parse_qsl(query_string.decode("latin-1"), keep_blank_values=True))
    for name in ("variables", "extensions"):
        if name in parameters:
            try:
                parameters[name] = limits.decode_json(parameters[name] or "null")
            except TooManyContainers as error:
                raise Refused(400, f"{name} {error}.") from None
            except ValueError:
                raise Refused(400, f"{name} is not valid JSON.") from None
    return _request(parameters, limits)


def names_query(query_string: bytes) -> bool:
    return any(name in ("query", "extensions") for name, _ in parse_qsl(query_string.decode("latin-1")))


def _request(parameters: Any, limits: Limits) -> GraphQLRequest:
    if not isinstance(parameters, dict):
        raise Refused(400, "The body must be a JSON object.")
    operation_name = parameters.get("operationName")
    if operation_name is not None and not isinstance(operation_name, str):
        raise BadUserInput("operationName", "must be a string")
    for name in ("variables", "extensions"):
        value = parameters.get(name)
        if value is not None and not isinstance(value, dict):
            raise BadUserInput(name, "must be an object")
    limits.check_variables(parameters.get("variables"))
    return GraphQLRequest(
        parameters.get("query"),
        # Forms send an empty name for none.
        operation_name or None,
        parameters.get("variables"),
        parameters.get("extensions"),
    )
