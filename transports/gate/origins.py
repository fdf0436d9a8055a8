"""Which browser origins may use the server (design 2.5), and the CORS headers that tell browsers so.

CORS does not cover WebSockets, so their handshakes ask here too.
"""

import ipaddress
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.types import Scope

PREFLIGHT_SECONDS = 7200
"""How long a browser may remember a preflight's answer; browsers cap it at about this."""
_EXPOSED = b"retry-after"
_METHODS = b"GET, POST, PATCH, DELETE, OPTIONS"
_HEADERS_DEFAULT = (
    b"content-type, authorization, apollo-require-preflight, x-apollo-operation-name, idempotency-key, last-event-id"
)
_DEFAULT_PORTS = {"http": 80, "https": 443}

Headers = list[tuple[bytes, bytes]]


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine only."""
    host = host.strip("[]").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_allowed(origin: str | None, host: str | None, bound_host: str, allowed: Collection[str]) -> bool:
    """Whether a request with these `Origin` and `Host` headers may be served by a server bound to `bound_host`.

    A request without an origin is allowed, and one from an origin that is listed. Besides, a server bound to loopback
    allows loopback origins, and any other server allows its own origin. A server bound to loopback does not trust the
    `Host` header: a foreign page whose name was made to point to this machine (DNS rebinding) sends its own name in
    both headers.
    """
    if origin is None:
        return True
    origin = origin.lower()
    if origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return False
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or origin != f"{parts.scheme}://{parts.netloc}":
        return False
    if is_loopback(bound_host):
        return is_loopback(parts.hostname)
    # Behind a proxy that ends TLS this server does not know the scheme that the browser used, so schemes are not
    # compared. Both headers leave out default ports.
    default = _DEFAULT_PORTS[parts.scheme]
    return host is not None and (parts.hostname, port or default) == _host_and_port(host, default)


def host_allowed(host: str | None, bound_host: str, allowed: Collection[str]) -> bool:
    """Whether a request with this `Host` header may be served by a server bound to `bound_host`.

    On loopback only names of loopback, and those of the listed origins, are accepted. Otherwise a foreign page whose
    name was made to point to this machine (DNS rebinding) could read everything: its browser takes the server for the
    page's own origin, and a `GET` of the same origin carries no `Origin`.
    """
    if host is None or not is_loopback(bound_host):
        return True
    name = _host_and_port(host, 0)[0]
    return name is not None and (is_loopback(name) or any(urlsplit(origin).hostname == name for origin in allowed))


def _host_and_port(host: str, default_port: int) -> tuple[str | None, int]:
    try:
        parts = urlsplit(f"//{host.lower()}")
        return parts.hostname, parts.port or default_port
    except ValueError:
        return None, default_port


class Origins:
    """The rule for one server. `allowed` are full origins: `https://chat.example`, without a path."""

    def __init__(self, bound_host: str, allowed: Iterable[str] = ()) -> None:
        listed = frozenset(origin.strip().rstrip("/").lower() for origin in allowed)

        # Every request asks, and nearly always about the same few pairs.
        @lru_cache(maxsize=256)
        def decide(origin: str, host: str | None) -> bool:
            return origin_allowed(origin, host, bound_host, listed)

        @lru_cache(maxsize=256)
        def decide_host(host: str) -> bool:
            return host_allowed(host, bound_host, listed)

        self._decide = decide
        # On loopback the pages of all ports of this machine are served, and browsers take them for one site.
        self._foreign_sites = {b"cross-site"} if is_loopback(bound_host) else {b"cross-site", b"same-site"}
        self._decide_host = decide_host if is_loopback(bound_host) else None

    def knows_host(self, scope: Scope) -> bool:
        """Whether the `Host` of an ASGI scope's request or handshake is a name of this server."""
        if self._decide_host is None:
            return True
        for name, value in scope["headers"]:
            if name == b"host" and (len(value) > 1024 or not self._decide_host(value.decode("latin-1"))):
                return False
        return True

    def allows(self, origin: bytes | None, host: bytes | None) -> bool:
        if origin is None:
            return True
        if len(origin) > 1024:
            return False
        return self._decide(origin.decode("latin-1"), None if host is None else host.decode("latin-1"))

    def admits(self, headers: Mapping[bytes, bytes]) -> bool:
        """Whether a request with these headers (by lower-case name) may be served.

        When a page embeds something (`<img>`, `<script>`), the browser sends no `Origin` with the request, but says in
        `Sec-Fetch-Site` that the page belongs to another site. Such a request is refused. It is served when a person
        has followed a link (a navigation).
        """
        origin = headers.get(b"origin")
        if origin is None and headers.get(b"sec-fetch-site") in self._foreign_sites:
            navigates = headers.get(b"sec-fetch-mode") == b"navigate"
            return navigates and headers.get(b"sec-fetch-dest", b"document") == b"document"
        return self.allows(origin, headers.get(b"host"))

    def allow(self, scope: Scope) -> bool:
        """Whether the request or handshake of an ASGI scope may be served."""
        origin = host = None
        for name, value in scope["headers"]:
            if name == b"origin":
                origin = value
            elif name == b"host":
                host = value
        return self.allows(origin, host)


def cors_headers(origin: bytes) -> Headers:
    """The headers of an answer to an allowed origin, so that its page may read the answer."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    ]


def preflight_headers(origin: bytes, requested_headers: bytes | None) -> Headers:
    """The headers that answer the preflight of an allowed origin: what its pages may send."""
    return [
        *cors_headers(origin),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", requested_headers or _HEADERS_DEFAULT),
        (b"access-control-max-age", str(PREFLIGHT_SECONDS).encode()),
    ]
