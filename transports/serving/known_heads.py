"""Heads of requests that came before. A client sends nearly the same bytes with each request, so what the parser has
found in them is kept, and the parser is not asked again.

A head counts as known only if it has the same bytes as one that the parser has accepted, apart from the digits of its
`Content-Length`. So nothing is accepted here that the parser would refuse. Everything else is judged for each request
as before, for example its token.
"""

from dataclasses import dataclass

from starlette.types import Scope
from uvicorn.server import ServerState

from transports.serving.shared_by_connections import shared

KNOWN_HEADS_MAX = 512
"""Heads that are kept for all connections of a server together. None is longer than a slice (2 KiB), and with its
headers it takes at most about 10 KiB."""
KNOWN_HEADERS_MAX = 48
"""A head with more headers is not kept. Browsers send about 20."""
_LENGTH = b"\r\ncontent-length:"
_LENGTH_DIGITS_MAX = 7


@dataclass(frozen=True, slots=True)
class KnownHead:
    """What the parser has found in a head of HTTP/1.1 that has no query string and keeps the connection open."""

    method: str
    path: str
    raw_path: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    length_at: int | None
    """The place of `Content-Length` among the headers."""

    @classmethod
    def of(cls, scope: Scope) -> "KnownHead":
        """The head of the request that has this scope."""
        headers = tuple(scope["headers"])
        length_at = next((place for place, (name, _) in enumerate(headers) if name == b"content-length"), None)
        return cls(scope["method"], scope["path"], scope["raw_path"], headers, length_at)

    def write_to(self, scope: Scope, length: bytes) -> None:
        """Writes into the scope of a request what its head says. `length` is its `Content-Length`, if it has one."""
        scope["method"], scope["path"], scope["raw_path"] = self.method, self.path, self.raw_path
        scope["query_string"] = b""
        headers = scope["headers"]
        headers += self.headers
        if self.length_at is not None:
            headers[self.length_at] = b"content-length", length


def without_length(head: bytes) -> tuple[bytes, bytes] | None:
    """A whole head without the digits of its `Content-Length`, and these digits (empty if it has no such header).

    None if the digits do not stand there as nearly every client writes them: then only the parser may judge them.
    """
    start = head.lower().find(_LENGTH)
    if start < 0:
        return head, b""
    start += len(_LENGTH)
    if head.startswith(b" ", start):
        start += 1
    end = head.find(b"\r\n", start)
    digits = head[start:end]
    if not digits.isdigit() or len(digits) > _LENGTH_DIGITS_MAX:
        return None
    return head[:start] + head[end:], digits


class KnownHeads:
    """The heads that one server knows. When there are too many, it forgets all: whoever still sends one makes it known
    again."""

    def __init__(self) -> None:
        self._heads: dict[bytes, KnownHead] = {}

    def find(self, key: bytes) -> KnownHead | None:
        """The head that was kept with this key: its bytes as `without_length` returns them."""
        return self._heads.get(key)

    def keep(self, key: bytes, head: KnownHead) -> None:
        if len(head.headers) > KNOWN_HEADERS_MAX:
            return
        if len(self._heads) >= KNOWN_HEADS_MAX:
            self._heads.clear()
        self._heads[key] = head


def known_heads_of(server_state: ServerState) -> KnownHeads:
    """The known heads that all connections of a server share."""
    return shared(server_state, KnownHeads)
