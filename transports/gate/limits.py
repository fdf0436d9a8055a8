"""What one client may ask of the server at once. Each limit is a setting, and what is past it gets a clear error."""

from dataclasses import dataclass, field
from typing import Any

from errors import BadUserInput
from transports.wire.http_exchange import encode_body
from transports.wire.json_codec import NESTING_MAX, decode_json

MEMBERS_MAX = 100
"""Members of an object inside the variables. No input type has ten fields, and each unknown member would make an error
of its own."""
_CONTAINERS = frozenset((dict, list))


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of requests, frames and sockets. Those of documents are `schema.proportions.DocumentLimits`."""

    body_bytes: int = field(default=1024 * 1024, metadata={"setting": "body_bytes_max"})
    """Longest body of a request."""
    variables_bytes: int = field(default=1024 * 1024, metadata={"setting": "max_variables_bytes"})
    """Longest variables of an operation, as JSON without white space."""
    variables_values: int = field(default=10_000, metadata={"setting": "max_variables_values"})
    """Values in the variables of an operation, each member and element counted: coercing one takes a microsecond, and
    thirty filters with every list full have 9,000."""
    json_nesting: int = field(default=NESTING_MAX, metadata={"setting": "max_json_nesting"})
    """How deep objects and lists may be nested in each other; `NESTING_MAX` at most."""
    init_timeout_seconds: float = field(default=3.0, metadata={"setting": "init_timeout_seconds"})
    """How long a GraphQL socket may take from its handshake to its `connection_ack`."""
    subscriptions: int = field(default=100, metadata={"setting": "max_subscriptions_per_connection"})
    """Subscriptions that may be live on one socket."""
    operations: int = field(default=32, metadata={"setting": "max_operations_per_connection"})
    """Queries and mutations running at once on one socket: enough posts to fill a group commit, and a bound on the
    results that a client which does not read can make the server hold."""

    def decode_json(self, text: str | bytes) -> Any:
        """The value of a JSON text. Raises ValueError as `json_codec.decode_json`."""
        return decode_json(text, self.json_nesting)

    def check_variables(self, variables: dict[str, Any] | None) -> None:
        """Checks variables before anything is made of them.

        Raises:
            BadUserInput: they are longer than allowed, or have more values.
        """
        if not variables:
            return
        plain = _CONTAINERS.isdisjoint(map(type, variables.values()))
        if plain and len(variables) <= self.variables_values and self.variables_bytes >= self.body_bytes:
            return  # They are a few plain values, as nearly always.
        if excess := self._excess(variables):
            raise BadUserInput("variables", excess)
        if self.variables_bytes < self.body_bytes and self._length(variables) > self.variables_bytes:
            raise BadUserInput("variables", f"must be at most {self.variables_bytes} bytes of JSON")

    def _excess(self, variables: dict[str, Any]) -> str | None:
        """What is wrong with them, None when nothing is. Counts no further than the limits."""
        values = len(variables)
        containers = [value for value in variables.values() if type(value) in _CONTAINERS]
        while containers and values <= self.variables_values:
            container = containers.pop()
            values += len(container)
            if values > self.variables_values:
                break
            if type(container) is dict:
                if len(container) > MEMBERS_MAX:
                    return f"must not have an object of more than {MEMBERS_MAX} members"
                container = container.values()
            containers += [value for value in container if type(value) in _CONTAINERS]
        return f"must have at most {self.variables_values} values" if values > self.variables_values else None

    def _length(self, variables: dict[str, Any]) -> int:
        try:
            return len(encode_body(variables))
        except ValueError:
            raise BadUserInput("variables", "is nested too deeply") from None
