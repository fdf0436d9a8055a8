"""What one client may ask of the server at once; each is a setting, and each is refused with a clear error."""

from dataclasses import dataclass
from typing import Any

from errors import BadUserInput
from transports.wire.http_exchange import encode_body
from transports.wire.json_codec import NESTING_MAX, decode_json


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of requests, frames and sockets. Those of documents are `schema.proportions.DocumentLimits`."""

    body_bytes: int = 1024 * 1024
    """Longest body of a request."""
    variables_bytes: int = 1024 * 1024
    """Longest variables of an operation, as JSON without white space."""
    json_nesting: int = NESTING_MAX
    """Containers inside containers, `NESTING_MAX` at most."""
    init_timeout_seconds: float = 3.0
    """From a GraphQL socket's handshake to its ack."""
    subscriptions: int = 100
    """Live ones on one socket."""
    operations: int = 32
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
