"""What one client may ask of the server at once; each is a setting, and each is refused with a clear error."""

from dataclasses import dataclass, field
from typing import Any

from errors import BadUserInput
from transports.wire.http_exchange import encode_body
from transports.wire.json_codec import NESTING_MAX, decode_json


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of requests, frames and sockets. Those of documents are `schema.proportions.DocumentLimits`."""

    body_bytes: int = field(default=1024 * 1024, metadata={"setting": "body_bytes_max"})
    """Longest body of a request."""
    variables_bytes: int = field(default=1024 * 1024, metadata={"setting": "max_variables_bytes"})
    """Longest variables of an operation, as JSON without white space."""
    json_nesting: int = field(default=NESTING_MAX, metadata={"setting": "max_json_nesting"})
    """Containers inside containers, `NESTING_MAX` at most."""
    init_timeout_seconds: float = field(default=3.0, metadata={"setting": "init_timeout_seconds"})
    """From a GraphQL socket's handshake to its ack."""
    subscriptions: int = field(default=100, metadata={"setting": "max_subscriptions_per_connection"})
    """Live ones on one socket."""
    operations: int = field(default=32, metadata={"setting": "max_operations_per_connection"})
    """Queries and mutations running at once on one socket: enough posts to fill a group commit, and a bound on the
    results that a client which does not read can make the server hold."""

    def decode_json(self, text: str | bytes) -> Any:
        """The value of a JSON text. Raises ValueError as `json_codec.decode_json`."""
        return decode_json(text, self.json_nesting)

    def check_variables(self, variables: dict[str, Any] | None) -> None:
        """Raises BadUserInput where the variables are longer than allowed."""
        if variables and self.variables_bytes < self.body_bytes and self._length(variables) > self.variables_bytes:
            raise BadUserInput("variables", f"must be at most {self.variables_bytes} bytes of JSON")

    def _length(self, variables: dict[str, Any]) -> int:
        try:
            return len(encode_body(variables))
        except ValueError:
            raise BadUserInput("variables", "is nested too deeply") from None
