"""What the head of a request must say, so that every proxy in front reads the same request in it (RFC 9112)."""

import re
from collections.abc import Iterable

Headers = Iterable[tuple[bytes, bytes]]
"""Names in lower case."""
_HOST = re.compile(
    rb"(?:\[[0-9A-Za-z:.%_~!$&'()*+,;=-]+\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?"
)
"""RFC 3986 section 3.2.2 and 3.2.3. It may be empty."""
JUDGED_HEADERS = frozenset((b"host", b"transfer-encoding"))
"""The headers that `head_refusal` looks at."""


def head_refusal(headers: Headers) -> tuple[int, str] | None:
    """Status and text of the answer to a head that must be refused; None for a good one.

    A request without `Host` is taken, also of HTTP/1.1: earlier versions took it, small clients and health checks send
    it, and nothing is decided by that header alone. Two of them are refused, since a proxy may have read the other one
    (RFC 9112 section 3.2). Of transfer codings this server knows `chunked` alone (section 6.1).
    """
    hosts = 0
    codings: list[bytes] = []
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if hosts > 1 or not _HOST.fullmatch(value.strip(b" \t")):
                return 400, "A request must have one Host header, which names a host and perhaps a port."
        elif name == b"transfer-encoding":
            codings += (coding.strip(b" \t").lower() for coding in value.split(b","))
    if codings and codings[-1] != b"chunked":
        return 400, "Where a body has transfer codings, the last must be chunked."
    # Lists may have empty members (RFC 9110 section 5.6.1). The parser refuses a body that is chunked twice.
    if any(coding not in (b"chunked", b"") for coding in codings):
        return 501, "This server knows no transfer coding but chunked."
    return None


def head_without(left_out: bytes, method: str, url: bytes, version: str, headers: Headers) -> bytes:
    """A request's head as bytes, without one of its headers."""
    lines = [b"%b %b HTTP/%b" % (method.encode(), url, version.encode())]
    lines += [b"%b: %b" % header for header in headers if header[0] != left_out]
    return b"\r\n".join([*lines, b"", b""])
